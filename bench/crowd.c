/* A crowd of scrapers in one thread that costs next to nothing, and the least that a server can do for it.
 *
 * crowd together PORT PATH CLIENTS ROUNDS: all connect in the same instant, again and again.
 * crowd apart PORT PATH CLIENTS ROUNDS: each scrapes once a second, at a time of its own.
 * Both print, a line for each scrape, microseconds from connecting to the last byte, and bytes.
 *
 * crowd floor BYTES: print a port and serve there a page that was ready before anybody asked. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 1024, MANY_BYTES = 1 << 18, EVERY_US = 1000000, PAUSE_US = 200000, PATIENCE_MS = 10000 };

struct client {
    int connection;
    int64_t began_us;
    int64_t due_us;
    int rounds_left;
    long bytes;
};

static char taken[MANY_BYTES];
static char request[4096];
static struct sockaddr_in server = {.sin_family = AF_INET};
static struct client clients[MOST];
static int events, busy;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static int64_t now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void watch(int operation, int connection, uint32_t what, void *whom) {
    struct epoll_event wanted = {.events = what, .data.ptr = whom};
    if (epoll_ctl(events, operation, connection, &wanted) < 0) fail("epoll_ctl");
}

static void begin(struct client *one) {
    one->connection = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (one->connection < 0) fail("socket");
    one->bytes = 0;
    one->began_us = now_us();
    if (connect(one->connection, (void *)&server, sizeof server) < 0 && errno != EINPROGRESS) fail("connect");
    watch(EPOLL_CTL_ADD, one->connection, EPOLLOUT, one);
    busy++;
}

static void end(struct client *one) {
    printf("%ld %ld\n", (long)(now_us() - one->began_us), one->bytes);
    close(one->connection);
    one->connection = -1;
    busy--;
}

static void serve(const struct epoll_event *event) {
    struct client *one = event->data.ptr;
    ssize_t got;
    if (event->events & EPOLLOUT) {
        if (send(one->connection, request, strlen(request), MSG_NOSIGNAL) < 0) fail("send");
        watch(EPOLL_CTL_MOD, one->connection, EPOLLIN, one);
        return;
    }
    got = recv(one->connection, taken, sizeof taken, 0);
    if (got < 0 && errno != EAGAIN) fail("recv");
    if (got > 0) {
        if (one->bytes == 0 && (got < 12 || memcmp(taken + 8, " 200", 4) != 0)) {
            fprintf(stderr, "not served: %.*s\n", (int)(got < 40 ? got : 40), taken);
            exit(1);
        }
        one->bytes += got;
    }
    if (got == 0) end(one);
}

static int turn(int wait_ms) {
    struct epoll_event ready[MOST];
    int count = epoll_wait(events, ready, MOST, wait_ms);
    for (int i = 0; i < count; i++) serve(&ready[i]);
    return count;
}

static void together(int count, int rounds) {
    for (; rounds > 0; rounds--) {
        for (int i = 0; i < count; i++) begin(&clients[i]);
        while (busy > 0)
            if (turn(PATIENCE_MS) == 0) fail("nobody answers");
        usleep(PAUSE_US);
    }
}

static void apart(int count, int rounds) {
    int left = count * rounds;
    srand(6);
    for (int i = 0; i < count; i++) {
        clients[i] = (struct client){-1, 0, now_us() + rand() % EVERY_US, rounds, 0};
    }
    while (left > 0 || busy > 0) {
        int64_t next_us = now_us() + EVERY_US;
        for (int i = 0; i < count; i++) {
            struct client *one = &clients[i];
            if (one->rounds_left == 0 || one->connection >= 0) continue;
            if (one->due_us <= now_us()) {
                begin(one);
                one->due_us += EVERY_US;
                one->rounds_left--;
                left--;
            } else if (one->due_us < next_us) {
                next_us = one->due_us;
            }
        }
        turn((int)((next_us - now_us()) / 1000) + 1);
    }
}

static void floor_of(long bytes) {
    struct epoll_event ready[MOST];
    socklen_t length = sizeof server;
    int one, listening = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    char *page = malloc((size_t)bytes + 200);
    long head = sprintf(page, "HTTP/1.1 200 OK\r\nContent-Length: %ld\r\nConnection: close\r\n\r\n", bytes);
    memset(page + head, 'x', (size_t)bytes);
    if (bind(listening, (void *)&server, length) < 0 || listen(listening, MOST) < 0) fail("bind");
    getsockname(listening, (void *)&server, &length);
    printf("%d\n", ntohs(server.sin_port));
    fflush(stdout);
    struct epoll_event wanted = {.events = EPOLLIN, .data.fd = listening};
    epoll_ctl(events, EPOLL_CTL_ADD, listening, &wanted);
    for (;;) {
        int count = epoll_wait(events, ready, MOST, -1);
        for (int i = 0; i < count; i++) {
            if (ready[i].data.fd == listening) {
                while ((one = accept4(listening, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    wanted.data.fd = one;
                    epoll_ctl(events, EPOLL_CTL_ADD, one, &wanted);
                }
            } else {
                one = ready[i].data.fd;
                if (recv(one, taken, sizeof taken, 0) > 0) send(one, page, (size_t)(head + bytes), MSG_NOSIGNAL | MSG_MORE);
                close(one);
            }
        }
    }
}

int main(int count, char **words) {
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    events = epoll_create1(0);
    if (count == 3 && strcmp(words[1], "floor") == 0) floor_of(atol(words[2]));
    if (count != 6 || atoi(words[4]) > MOST) return 2;
    server.sin_port = htons((uint16_t)atoi(words[2]));
    snprintf(request, sizeof request,
             "GET %s HTTP/1.1\r\nHost: bench\r\nUser-Agent: Prometheus/3.5.0\r\nAccept-Encoding: gzip\r\n"
             "Accept: application/openmetrics-text;version=1.0.0\r\n\r\n",
             words[3]);
    if (strcmp(words[1], "together") == 0)
        together(atoi(words[4]), atoi(words[5]));
    else
        apart(atoi(words[4]), atoi(words[5]));
    return 0;
}
