/*
 * A million timers at once: each fires, none early, and is freed; cancelled, none fires. The count of those that
 * run is exact.
 */
#include "support.h"

#include <unistd.h>

enum { TIMERS = 1000000, SPREAD_MS = 200 };

typedef struct entry {
    long due_ms;
    ahoy_timer timer;
    atomic_int fired, freed;
} entry;

static entry *entries;
static long count;
static atomic_long fired, freed;
static tally seen = TALLY_INIT;

static void on_timer(ahoy_timer timer, ahoy_conn conn, void *user) {
    (void)conn;
    entry *entry = user;
    CHECK(now_ms() >= entry->due_ms);
    CHECK_EQ(timer.id, entry->timer.id);
    entry->fired++;
    fired++;
}

static void on_free(void *user) {
    ((entry *)user)->freed++;
    freed++;
}

static void start_all(ahoy_server server, uint32_t after_ms, uint32_t spread_ms) {
    memset(entries, 0, (size_t)count * sizeof *entries);
    fired = freed = 0;
    uint32_t step = 7919; /* prime: the delays come in no order */
    for (long i = 0; i < count; i++) {
        uint32_t delay = after_ms + (uint32_t)((uint64_t)i * step % spread_ms);
        entries[i].due_ms = now_ms() + delay;
        ahoy_status status;
        while ((status = ahoy_timer_start(server, delay, 0, on_timer, &entries[i], on_free, &entries[i].timer)) ==
               AHOY_ERR_AGAIN) wait_moment();
        CHECK_OK(status);
    }
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    start_all(ahoy_conn_server(conn), 1, SPREAD_MS);
    tally_message(conn, data, len, user);
}

static void check_each(int times_fired) {
    WAIT_UNTIL(freed == count);
    CHECK_EQ(fired, times_fired * count);
    for (long i = 0; i < count; i++) {
        CHECK_EQ(entries[i].fired, times_fired);
        CHECK_EQ(entries[i].freed, 1);
    }
}

int main(void) {
    count = rounds(TIMERS);
    entries = calloc((size_t)count, sizeof *entries);
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 2, .user = &seen, .on_message = on_message));

    /* From another thread, and from a callback. */
    start_all(server, 1, SPREAD_MS);
    check_each(1);
    int fd = dial(server);
    send_all(fd, "go", 2);
    latch_wait(&seen.messages, 1);
    check_each(1);
    WAIT_UNTIL(stats_of(server).timers == 0);

    /* None of these will come: an hour to several weeks. */
    start_all(server, 3600u * 1000, UINT32_MAX - 3600u * 1000);
    WAIT_UNTIL(stats_of(server).timers == (uint64_t)count);
    for (long i = 0; i < count; i++) {
        ahoy_status status;
        while ((status = ahoy_timer_cancel(entries[i].timer)) == AHOY_ERR_AGAIN) wait_moment();
        CHECK_OK(status);
    }
    check_each(0);
    WAIT_UNTIL(stats_of(server).timers == 0);

    /* And these end with the server. */
    start_all(server, 3600u * 1000, UINT32_MAX - 3600u * 1000);
    ahoy_server_free(server);
    check_each(0);
    free(entries);
    close(fd);
    return 0;
}
