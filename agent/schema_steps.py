"""The journal's tables as the steps that made them, in SQL: agent/schema.py applies them in order.

Never edit one that was released: add another. Units: *_ms milliseconds since the epoch or of duration,
busy_us microseconds, energy_mj millijoules.
"""

_AMOUNTS = """
    elapsed_ms INTEGER NOT NULL,
    busy_us INTEGER NOT NULL,
    busy_seen_ms INTEGER NOT NULL,
    energy_mj INTEGER NOT NULL,
    energy_seen_ms INTEGER NOT NULL"""

FIRST = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE node (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE gpu (
    id INTEGER PRIMARY KEY,
    uuid TEXT NOT NULL UNIQUE,
    model TEXT NOT NULL DEFAULT '',
    serial TEXT NOT NULL DEFAULT '',
    board_part TEXT NOT NULL DEFAULT '',
    vbios TEXT NOT NULL DEFAULT '',
    driver TEXT NOT NULL DEFAULT '',
    cuda TEXT NOT NULL DEFAULT ''
);
-- where a GPU sat, from when to when; to_ms is NULL while it sits there
CREATE TABLE place (
    gpu_id INTEGER NOT NULL,
    node_id INTEGER NOT NULL,
    position INTEGER NOT NULL,
    pci_bus TEXT NOT NULL,
    from_ms INTEGER NOT NULL,
    to_ms INTEGER,
    PRIMARY KEY (gpu_id, from_ms)
) WITHOUT ROWID;
-- up to when a GPU's time is accounted for, when it was last enumerated, its energy counter's last value
CREATE TABLE timeline (
    gpu_id INTEGER PRIMARY KEY,
    node_id INTEGER NOT NULL,
    until_ms INTEGER NOT NULL,
    seen_ms INTEGER NOT NULL,
    energy_joules REAL,
    energy_at_ms INTEGER NOT NULL,
    boot_id TEXT NOT NULL
);
CREATE TABLE holder (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    owner TEXT NOT NULL,
    user TEXT NOT NULL,
    workload TEXT NOT NULL,
    UNIQUE (kind, name, owner, user, workload)
);
CREATE TABLE owner (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE tick (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    node_id INTEGER NOT NULL,
    start_ms INTEGER NOT NULL,
    end_ms INTEGER NOT NULL,
    late_seconds REAL NOT NULL,
    driver_calls INTEGER NOT NULL,
    driver_seconds REAL NOT NULL
);
CREATE INDEX tick_by_end ON tick (end_ms);
CREATE TABLE reading (
    tick_id INTEGER NOT NULL,
    gpu_id INTEGER NOT NULL,
    start_ms INTEGER NOT NULL,
    end_ms INTEGER NOT NULL,
    condition TEXT NOT NULL,
    PRIMARY KEY (tick_id, gpu_id, end_ms)
) WITHOUT ROWID;
-- the ledger: what each tick added to the accounts
CREATE TABLE posting (
    tick_id INTEGER NOT NULL,
    gpu_id INTEGER NOT NULL,
    state TEXT NOT NULL,
    holder_id INTEGER,
    start_ms INTEGER NOT NULL,{_AMOUNTS}
);
CREATE INDEX posting_by_tick ON posting (tick_id);
CREATE TABLE account (
    gpu_id INTEGER NOT NULL,
    node_id INTEGER NOT NULL,
    state TEXT NOT NULL,
    owner_id INTEGER NOT NULL,{_AMOUNTS},
    born_ms INTEGER NOT NULL,
    grown_ms INTEGER NOT NULL,
    PRIMARY KEY (gpu_id, node_id, state, owner_id)
) WITHOUT ROWID;
CREATE TABLE account_hour (
    hour_ms INTEGER NOT NULL,
    gpu_id INTEGER NOT NULL,
    node_id INTEGER NOT NULL,
    state TEXT NOT NULL,
    owner_id INTEGER NOT NULL,{_AMOUNTS},
    PRIMARY KEY (hour_ms, gpu_id, node_id, state, owner_id)
) WITHOUT ROWID;
CREATE TABLE spell (
    gpu_id INTEGER NOT NULL,
    holder_id INTEGER NOT NULL,
    start_ms INTEGER NOT NULL,
    end_ms INTEGER NOT NULL,
    seen_ms INTEGER NOT NULL,
    beyond_ms INTEGER NOT NULL,
    unknown_ms INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    PRIMARY KEY (gpu_id, holder_id, start_ms)
) WITHOUT ROWID;
CREATE INDEX spell_open ON spell (ended) WHERE ended = 0;
CREATE TABLE finding (
    id INTEGER PRIMARY KEY,
    node_id INTEGER NOT NULL,
    gpu_id INTEGER,
    rule TEXT NOT NULL,
    severity TEXT NOT NULL,
    opened_ms INTEGER NOT NULL,
    closed_ms INTEGER,
    summary TEXT NOT NULL,
    action TEXT NOT NULL
);
CREATE TABLE event (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    node_id INTEGER NOT NULL,
    gpu_id INTEGER,
    at_ms INTEGER NOT NULL,
    kind TEXT NOT NULL,
    text TEXT NOT NULL
);
INSERT INTO owner (id, name) VALUES (0, '');
INSERT INTO meta (key, value) VALUES ('ticks_dropped', '0');
"""


SECOND = """
ALTER TABLE gpu ADD COLUMN inforom TEXT NOT NULL DEFAULT '';
ALTER TABLE gpu ADD COLUMN architecture TEXT NOT NULL DEFAULT '';
ALTER TABLE gpu ADD COLUMN minor TEXT NOT NULL DEFAULT '';
ALTER TABLE gpu ADD COLUMN module TEXT NOT NULL DEFAULT '';
ALTER TABLE gpu ADD COLUMN chassis TEXT NOT NULL DEFAULT '';
ALTER TABLE gpu ADD COLUMN slot TEXT NOT NULL DEFAULT '';
ALTER TABLE gpu ADD COLUMN tray TEXT NOT NULL DEFAULT '';
-- MIG slices of a reading's GPU; columns follow agent.pieces.SLICE_QUANTITIES
CREATE TABLE slice_reading (
    tick_id INTEGER NOT NULL,
    gpu_id INTEGER NOT NULL,
    uuid TEXT NOT NULL,
    profile TEXT NOT NULL,
    weight_ratio REAL NOT NULL,
    PRIMARY KEY (tick_id, uuid)
) WITHOUT ROWID;
-- links, fans, places of memory: a row when a value changes; labels are a JSON list
CREATE TABLE part (
    gpu_id INTEGER NOT NULL,
    quantity TEXT NOT NULL,
    labels TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    value REAL NOT NULL,
    PRIMARY KEY (gpu_id, quantity, labels, at_ms)
) WITHOUT ROWID;
-- what the driver's counters count anew and ours go on with
CREATE TABLE counter (
    gpu_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    base REAL NOT NULL,
    raw REAL NOT NULL,
    epoch TEXT NOT NULL,
    PRIMARY KEY (gpu_id, name)
) WITHOUT ROWID;
-- how often each XID came; uuid is empty for a GPU that nobody knows
CREATE TABLE xid (
    uuid TEXT NOT NULL,
    number INTEGER NOT NULL,
    boot_id TEXT NOT NULL,
    count INTEGER NOT NULL,
    first_ms INTEGER NOT NULL,
    last_ms INTEGER NOT NULL,
    PRIMARY KEY (uuid, number, boot_id)
) WITHOUT ROWID;
"""


THIRD = """
-- holders carry what their worlds tell; the numbers of those that are known stay
ALTER TABLE holder RENAME TO holder_before;
CREATE TABLE holder (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    owner TEXT NOT NULL,
    user TEXT NOT NULL,
    workload TEXT NOT NULL,
    account TEXT NOT NULL DEFAULT '',
    partition TEXT NOT NULL DEFAULT '',
    qos TEXT NOT NULL DEFAULT '',
    namespace TEXT NOT NULL DEFAULT '',
    container TEXT NOT NULL DEFAULT '',
    title TEXT NOT NULL DEFAULT '',
    cost_centre TEXT NOT NULL DEFAULT ''
);
INSERT INTO holder (id, kind, name, owner, user, workload)
    SELECT id, kind, name, owner, user, workload FROM holder_before;
DROP TABLE holder_before;
CREATE INDEX holder_by_name ON holder (name);
ALTER TABLE spell RENAME TO spell_before;
CREATE TABLE spell (
    gpu_id INTEGER NOT NULL,
    holder_id INTEGER NOT NULL,
    slice TEXT NOT NULL,
    start_ms INTEGER NOT NULL,
    end_ms INTEGER NOT NULL,
    seen_ms INTEGER NOT NULL,
    beyond_ms INTEGER NOT NULL,
    unknown_ms INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    PRIMARY KEY (gpu_id, holder_id, slice, start_ms)
) WITHOUT ROWID;
INSERT INTO spell SELECT gpu_id, holder_id, '', start_ms, end_ms, seen_ms, beyond_ms, unknown_ms, ended
    FROM spell_before;
DROP TABLE spell_before;
CREATE INDEX spell_open ON spell (ended) WHERE ended = 0;
-- what each holder had, from when it took hold on this node until it let go; figures are a JSON table
CREATE TABLE tenure (
    node_id INTEGER NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    user TEXT NOT NULL, -- of plain processes only: several users may run the same command
    start_ms INTEGER NOT NULL,
    end_ms INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    holder_id INTEGER NOT NULL,
    figures TEXT NOT NULL,
    PRIMARY KEY (node_id, kind, name, user, start_ms)
) WITHOUT ROWID;
CREATE INDEX tenure_by_name ON tenure (name)
"""

FOURTH = """
ALTER TABLE posting ADD COLUMN slice TEXT NOT NULL DEFAULT '';
-- how often it opened, each time soon after it had closed; who held the GPU when it did
ALTER TABLE finding ADD COLUMN times INTEGER NOT NULL DEFAULT 1;
ALTER TABLE finding ADD COLUMN held_by TEXT NOT NULL DEFAULT '';
-- how far each exporter is, and what became of what it sent
CREATE TABLE exporter (
    name TEXT PRIMARY KEY,
    tick_id INTEGER NOT NULL,
    tick_ms INTEGER NOT NULL,
    ahead_from INTEGER NOT NULL,
    ahead_to INTEGER NOT NULL,
    resends INTEGER NOT NULL,
    delivered_ticks INTEGER NOT NULL,
    refused_rows INTEGER NOT NULL,
    dropped_ticks INTEGER NOT NULL,
    dropped_from_ms INTEGER NOT NULL,
    dropped_until_ms INTEGER NOT NULL,
    success_ms INTEGER NOT NULL,
    failure_ms INTEGER NOT NULL,
    failure TEXT NOT NULL,
    refusal TEXT NOT NULL
) WITHOUT ROWID;
-- what people say of findings; a silence without a rule or a GPU is about all of them
CREATE TABLE silence (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    rule TEXT NOT NULL,
    uuid TEXT NOT NULL,
    from_ms INTEGER NOT NULL,
    until_ms INTEGER NOT NULL,
    author TEXT NOT NULL,
    reason TEXT NOT NULL
);
CREATE TABLE acknowledgement (
    finding_id INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    author TEXT NOT NULL,
    reason TEXT NOT NULL
);
-- what an exporter told of a finding last: that it was open, so many times (less than 0: it was sent, and no
-- answer came), or that it closed
CREATE TABLE told (
    exporter TEXT NOT NULL,
    finding_id INTEGER NOT NULL,
    times INTEGER NOT NULL,
    closed_ms INTEGER,
    PRIMARY KEY (exporter, finding_id)
) WITHOUT ROWID;
-- the static labels of the settings, a JSON table
ALTER TABLE node ADD COLUMN labels TEXT NOT NULL DEFAULT '{}';
-- what a GPU did within an hour besides its accounts; columns follow agent.hourly.FIGURES
CREATE TABLE gpu_hour (
    hour_ms INTEGER NOT NULL,
    gpu_id INTEGER NOT NULL,
    node_id INTEGER NOT NULL,
    temperature_max_celsius REAL,
    margin_least_celsius REAL,
    memory_max_bytes REAL,
    power_max_watts REAL,
    heat_lost_ms INTEGER,
    PRIMARY KEY (hour_ms, gpu_id, node_id)
) WITHOUT ROWID;
-- how often each XID came within an hour; uuid is empty for a GPU that nobody knows
CREATE TABLE xid_hour (
    hour_ms INTEGER NOT NULL,
    node_id INTEGER NOT NULL,
    uuid TEXT NOT NULL,
    number INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (hour_ms, node_id, uuid, number)
) WITHOUT ROWID
"""
