/*
 * A stop that finds every kind of connection: accepted, outgoing, being opened, waiting for another try, datagrams.
 * Each is told once and closed once; a second stop shortens the time; and what was cut is counted to the byte.
 */
#include "dgram.h"
#include "remote.h"

#include <unistd.h>

enum { LARGE = 16 * 1024 * 1024, SMALL = 1000, DATAGRAMS = 300, KINDS = 5 };

static tally seen;
static latch drained, down;
static char large[LARGE];

static void on_drain(ahoy_conn conn, void *user) {
    (void)conn, (void)user;
    latch_add(&drained, 1); /* and waits for its peer, which does nothing */
}

static void on_down(ahoy_conn conn, ahoy_status reason, void *user) {
    (void)conn, (void)reason, (void)user;
    latch_add(&down, 1);
}

typedef struct everything {
    ahoy_server server;
    remote silent, hole, dead;
    int accepted, datagrams;
    uint64_t queued; /* bytes that sends have taken */
} everything;

static void queue(everything *all, ahoy_conn conn, size_t bytes, int times) {
    for (int i = 0; i < times; i++) CHECK_OK(ahoy_send(conn, large, bytes));
    all->queued += bytes * (size_t)times;
}

static everything begin(ahoy_drain_fn drain) {
    char listen[128];
    seen = (tally)TALLY_INIT, drained = (latch)LATCH_INIT, down = (latch)LATCH_INIT;
    snprintf(listen, sizeof listen, "%s,%s", LOOPBACK, dgram_name(0));
    everything all = { .silent = remote_process(false), .hole = remote_black_hole(), .dead = remote_dead() };
    all.server = start(OPTIONS(.listen = listen, .workers = 2, .user = &seen, .queue_bytes_max = 2 * LARGE,
                               .message_bytes_max = LARGE, .on_open = tally_open, .on_message = tally_message,
                               .on_drain = drain, .on_close = tally_close, .on_free = tally_free));
    all.accepted = dial(all.server);
    latch_wait(&seen.opened, 1);
    queue(&all, tally_conn(&seen), LARGE, 1);
    all.datagrams = dgram_dial(all.server, 1, dgram_name(1));
    dgram_send(all.datagrams, "hello", 5);
    latch_wait(&seen.opened, 2);
    queue(&all, tally_conn(&seen), SMALL, DATAGRAMS);
    queue(&all, outgoing(all.server, all.silent.url, CONNECT_OPTIONS(0)), LARGE, 1);
    latch_wait(&seen.opened, 3);
    queue(&all, outgoing(all.server, all.hole.url, CONNECT_OPTIONS(0)), SMALL, 1);
    queue(&all, outgoing(all.server, all.dead.url, CONNECT_OPTIONS(.on_down = on_down, .reconnect = 1,
                                                                   .reconnect_min_ms = 3600 * 1000,
                                                                   .reconnect_max_ms = 3600 * 1000)), SMALL, 1);
    latch_wait(&down, 1);
    WAIT_UNTIL(stats_of(all.server).bytes_out > 0);
    return all;
}

static void end(everything *all, ahoy_drain_fn drain) {
    CHECK_OK(ahoy_server_wait(all->server));
    ahoy_stats stats = stats_of(all->server);
    CHECK_EQ(stats.bytes_out + stats.bytes_cut, all->queued);
    CHECK(stats.bytes_cut >= 2 * SMALL);
    CHECK_EQ(stats.connections_cut, KINDS);
    CHECK_EQ(stats.bytes_queued, 0);
    CHECK_EQ(stats.connections, 0);
    CHECK_EQ(stats.connecting, 0);
    CHECK_EQ(stats.opened, KINDS); /* begun to be opened */
    CHECK_EQ(stats.closed, KINDS);
    CHECK_EQ(latch_count(&seen.closed), KINDS);
    CHECK_EQ(seen.reasons[-AHOY_ERR_STOPPED], KINDS);
    CHECK_EQ(latch_count(&drained), drain ? 3 : 0); /* those that were open */
    CHECK_EQ(latch_count(&seen.freed), 1);
    ahoy_server_free(all->server);
    close(all->accepted), close(all->datagrams);
    remote_end(&all->silent), remote_end(&all->hole), remote_end(&all->dead);
}

static void stopped(ahoy_drain_fn drain, int32_t first_ms, int32_t second_ms) {
    holdings before = holdings_now();
    everything all = begin(drain);
    CHECK_OK(ahoy_server_stop(all.server, first_ms));
    if (second_ms >= 0) {
        /* Those that have nobody to drain to are over at once; the others wait for their peers. */
        if (drain) latch_wait(&drained, 3);
        latch_wait(&seen.closed, KINDS - 3);
        if (first_ms > 60000) CHECK_EQ(latch_count(&seen.closed), KINDS - 3);
        CHECK_STATUS(ahoy_connect(all.server, all.silent.url, NULL, NULL), AHOY_ERR_STOPPED);
        CHECK_OK(ahoy_server_stop(all.server, second_ms));
    }
    end(&all, drain);
    CHECK_HOLDINGS(before);
}

int main(void) {
    enum { HOUR_MS = 3600 * 1000 };
    stopped(NULL, 0, -1);
    stopped(NULL, 100, -1);
    stopped(NULL, HOUR_MS, 0);
    stopped(on_drain, 0, -1);
    stopped(on_drain, 100, HOUR_MS); /* a later stop never lengthens */
    stopped(on_drain, HOUR_MS, 50);
    return 0;
}
