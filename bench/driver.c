/* A driver for benches: the functions of libnvidia-ml.so.1 that the agent calls, each taking so many
 * microseconds of processor time (BENCH_LATENCY_US). Eight GPUs, all answers plausible and cheap. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { GPUS = 8, OK = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, TIMEOUT = 10 };

static int64_t latency_ns;
static char gpus[GPUS];

static int64_t now_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int answer(int code) {
    if (latency_ns > 0) {
        int64_t until = now_ns(CLOCK_MONOTONIC) + latency_ns;
        while (now_ns(CLOCK_MONOTONIC) < until) {
        }
    }
    return code;
}

static int number(unsigned *out, unsigned value) {
    *out = value;
    return answer(OK);
}

static int text(char *out, unsigned length, const char *value) {
    snprintf(out, length, "%s", value);
    return answer(OK);
}

static int start(void) {
    const char *told = getenv("BENCH_LATENCY_US");
    latency_ns = told ? atoll(told) * 1000 : 0;
    return OK;
}

int nvmlInit_v2(void) { return start(); }
int nvmlInitWithFlags(unsigned flags) { (void)flags; return start(); }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { (void)code; return "a code of the bench's driver"; }
int nvmlSystemGetDriverVersion(char *out, unsigned length) { return text(out, length, "580.95.05"); }
int nvmlSystemGetCudaDriverVersion(int *out) { return number((unsigned *)out, 13000); }
int nvmlDeviceGetCount_v2(unsigned *out) { return number(out, GPUS); }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **out) { *out = &gpus[index]; return answer(OK); }
int nvmlDeviceGetName(void *gpu, char *out, unsigned length) { (void)gpu; return text(out, length, "NVIDIA H200"); }
int nvmlDeviceGetUUID(void *gpu, char *out, unsigned length) {
    snprintf(out, length, "GPU-0000000%d-bench", (int)((char *)gpu - gpus));
    return answer(OK);
}

/* Gauges */

struct memory { unsigned version; uint64_t total, reserved, free, used; };
struct temperature { unsigned version, sensor; int celsius; };
struct margin { unsigned version; int celsius; };

int nvmlDeviceGetMemoryInfo_v2(void *gpu, struct memory *out) {
    (void)gpu;
    out->total = 150754820096, out->reserved = 642777088, out->used = 117087393546;
    out->free = out->total - out->reserved - out->used;
    return answer(OK);
}
int nvmlDeviceGetTemperatureV(void *gpu, struct temperature *out) { (void)gpu; out->celsius = 61; return answer(OK); }
int nvmlDeviceGetMarginTemperature(void *gpu, struct margin *out) { (void)gpu; out->celsius = 26; return answer(OK); }
int nvmlDeviceGetClockInfo(void *gpu, unsigned kind, unsigned *out) { (void)gpu; (void)kind; return number(out, 1785); }
int nvmlDeviceGetMaxClockInfo(void *gpu, unsigned kind, unsigned *out) { (void)gpu; (void)kind; return number(out, 1980); }
int nvmlDeviceGetPerformanceState(void *gpu, unsigned *out) { (void)gpu; return number(out, 0); }
int nvmlDeviceGetPersistenceMode(void *gpu, unsigned *out) { (void)gpu; return number(out, 1); }
int nvmlDeviceGetComputeMode(void *gpu, unsigned *out) { (void)gpu; return number(out, 0); }
int nvmlDeviceGetMigMode(void *gpu, unsigned *now, unsigned *pending) { (void)gpu; *pending = 0; return number(now, 0); }
int nvmlDeviceGetEccMode(void *gpu, unsigned *now, unsigned *pending) { (void)gpu; *pending = 1; return number(now, 1); }
int nvmlDeviceGetCurrPcieLinkGeneration(void *gpu, unsigned *out) { (void)gpu; return number(out, 5); }
int nvmlDeviceGetMaxPcieLinkGeneration(void *gpu, unsigned *out) { (void)gpu; return number(out, 5); }
int nvmlDeviceGetCurrPcieLinkWidth(void *gpu, unsigned *out) { (void)gpu; return number(out, 16); }
int nvmlDeviceGetMaxPcieLinkWidth(void *gpu, unsigned *out) { (void)gpu; return number(out, 16); }

/* Fields: whole numbers that grow with time, so that counters grow and gauges are small. */

struct field { unsigned id, scope; int64_t at_us, latency_us; int kind, code; uint64_t value; };

int nvmlDeviceGetFieldValues(void *gpu, int count, struct field *out) {
    uint64_t ms = now_ns(CLOCK_MONOTONIC) / 1000000;
    (void)gpu;
    for (int place = 0; place < count; place++) {
        struct field *one = &out[place];
        one->at_us = 0, one->latency_us = 0, one->kind = 3, one->code = OK, one->value = 0;
        switch (one->id) {
        case 83: one->value = ms * 600; break;
        case 82: one->value = 60; break;
        case 91: one->value = 18; break;
        case 138: case 139: one->value = ms * 1000; break;
        case 165: one->value = 1; break;
        case 185: case 186: case 187: case 188: case 189: case 190:
            one->value = 650000, one->code = one->scope == 1 ? NOT_SUPPORTED : OK;
            break;
        case 219: case 220: case 221: case 222: case 214: case 206: case 207: case 208: case 211:
            one->code = NOT_SUPPORTED;
            break;
        default: break;
        }
    }
    return answer(OK);
}

/* Rings: six samples a second, for the last twelve. */

struct sample { uint64_t at_us; uint64_t value; };

int nvmlDeviceGetSamples(void *gpu, unsigned kind, uint64_t after_us, unsigned *type, unsigned *count, struct sample *out) {
    uint64_t newest = now_ns(CLOCK_REALTIME) / 1000 * 6 / 1000000, oldest = newest - 71, found = 0;
    (void)gpu;
    *type = 1;
    if (!out) {
        *count = 72;
        return answer(OK);
    }
    for (uint64_t at = oldest; at <= newest && found < *count; at++) {
        uint64_t at_us = at * 1000000 / 6;
        if (at_us > after_us) {
            out[found].at_us = at_us;
            out[found++].value = kind == 0 ? 650000 : 50;
        }
    }
    *count = found;
    return answer(found ? OK : NOT_FOUND);
}

/* Processes */

struct process { unsigned pid, pad; uint64_t memory; unsigned instance, part; };
struct share { unsigned pid, pad; uint64_t at_us; unsigned sm, memory, encoder, decoder; };

static int one_process(unsigned *count, struct process *out) {
    *count = 1;
    if (!out) {
        return answer(TOO_SMALL);
    }
    out->pid = 1, out->memory = 117087393546, out->instance = out->part = 0xFFFFFFFF;
    return answer(OK);
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *gpu, unsigned *count, struct process *out) { (void)gpu; return one_process(count, out); }
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *gpu, unsigned *count, struct process *out) { (void)gpu; (void)out; return number(count, 0); }
int nvmlDeviceGetMPSComputeRunningProcesses_v3(void *gpu, unsigned *count, struct process *out) { (void)gpu; (void)out; return number(count, 0); }
int nvmlDeviceGetProcessUtilization(void *gpu, struct share *out, unsigned *count, uint64_t after_us) {
    (void)gpu; (void)after_us;
    *count = 1;
    out->pid = 1, out->at_us = now_ns(CLOCK_REALTIME) / 1000, out->sm = 50;
    return answer(OK);
}

/* Performance metrics */

struct metric { unsigned id; int code; double value; const char *names[3]; };
struct metrics { unsigned version, count; void *older, *newer; struct metric rows[]; };
struct support { unsigned version, supported; };

int nvmlGpmQueryDeviceSupport(void *gpu, struct support *out) { (void)gpu; out->supported = 1; return answer(OK); }
int nvmlGpmSampleAlloc(void **out) { *out = malloc(64); return OK; }
int nvmlGpmSampleFree(void *sample) { free(sample); return OK; }
int nvmlGpmSampleGet(void *gpu, void *sample) { (void)gpu; (void)sample; return answer(OK); }
int nvmlGpmMetricsGet(struct metrics *out) {
    for (unsigned place = 0; place < out->count; place++) {
        out->rows[place].code = OK, out->rows[place].value = 50.0;
    }
    return answer(OK);
}

/* Events: never any */

int nvmlEventSetCreate(void **out) { *out = &latency_ns; return OK; }
int nvmlEventSetFree(void *set) { (void)set; return OK; }
int nvmlDeviceGetSupportedEventTypes(void *gpu, uint64_t *out) { (void)gpu; *out = 0x108; return answer(OK); }
int nvmlDeviceRegisterEvents(void *gpu, uint64_t types, void *set) { (void)gpu; (void)types; (void)set; return answer(OK); }
int nvmlEventSetWait_v2(void *set, void *data, unsigned timeout_ms) { (void)set; (void)data; (void)timeout_ms; return answer(TIMEOUT); }
