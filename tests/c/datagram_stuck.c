/*
 * A Unix datagram peer that takes nothing: sends are refused when its queue is full, on_writable comes when it reads,
 * and after `write_ms` it is closed. Meanwhile its neighbours are served, and the worker sleeps.
 */
#include "dgram.h"

#include <unistd.h>

enum { DATAGRAM_BYTES = 1000, QUEUE_BYTES = 50 * DATAGRAM_BYTES };

static tally seen;
static char datagram[DATAGRAM_BYTES];

static ahoy_server begin(uint32_t write_ms, int32_t overflow) {
    seen = (tally)TALLY_INIT;
    return start(OPTIONS(.listen = dgram_name(0), .workers = 1, .user = &seen, .write_ms = write_ms,
                         .queue_bytes_max = QUEUE_BYTES, .overflow = overflow, .on_open = tally_open,
                         .on_message = tally_echo, .on_writable = tally_writable, .on_close = tally_close));
}

/* Not connected to the server's socket: its queue is its own. */
static int stuck_peer(void) {
    char url[128];
    int fd = dgram_bind(dgram_name(1), url, sizeof url);
    dgram_send_url(fd, dgram_name(0), "hello", 5);
    dgram_expect(fd, "hello", 5);
    return fd;
}

/* Fills its queue: how many datagrams were taken, and what the last send said. */
static long fill(ahoy_conn conn, ahoy_status *last) {
    long taken = 0;
    while ((*last = ahoy_send(conn, datagram, sizeof datagram)) == AHOY_OK) taken++;
    return taken;
}

static void refused_and_taken_again(void) {
    ahoy_server server = begin(AHOY_MS_NEVER, AHOY_OVERFLOW_REFUSE);
    int fd = stuck_peer(), other = dgram_dial(server, 0, dgram_name(2));
    ahoy_conn conn = tally_conn(&seen);
    ahoy_status last;
    long taken = fill(conn, &last), more = 0;
    CHECK_STATUS(last, AHOY_ERR_AGAIN);
    /* What the worker takes over counts twice for a moment: that may have been a refusal before the time. */
    do {
        dgram_send(other, "echo", 4);
        dgram_expect(other, "echo", 4);
        taken += more = fill(conn, &last);
    } while (more > 0);
    CHECK(taken >= QUEUE_BYTES / DATAGRAM_BYTES - 1);
    CHECK(ahoy_conn_queued(conn) > 0);

    /* Its neighbour is served, and nobody spins: a turn for each message, and for a try now and then. */
    uint64_t turns = stats_of(server).turns;
    long begin_ms = now_ms();
    for (int i = 0; i < 50; i++) {
        dgram_send(other, "echo", 4);
        dgram_expect(other, "echo", 4);
        wait_moment();
    }
    long spent_ms = now_ms() - begin_ms;
    CHECK(stats_of(server).turns - turns <= 300 + 3 * (uint64_t)spent_ms);

    CHECK_EQ(latch_count(&seen.writable), 0);
    for (long i = 0; i < taken; i++) dgram_expect(fd, datagram, sizeof datagram);
    latch_wait(&seen.writable, 1);
    WAIT_UNTIL(ahoy_conn_queued(conn) == 0);
    CHECK_OK(ahoy_send(conn, "again", 5));
    dgram_expect(fd, "again", 5);
    CHECK_EQ(stats_of(server).datagrams_dropped, 0);
    CHECK_EQ(latch_count(&seen.closed), 0);
    close(fd), close(other);
    ahoy_server_free(server);
}

static void closed_after_its_time(void) {
    enum { WRITE_MS = 150 };
    ahoy_server server = begin(WRITE_MS, AHOY_OVERFLOW_REFUSE);
    int fd = stuck_peer();
    ahoy_status last;
    long begin_ms = now_ms(), taken = fill(tally_conn(&seen), &last);
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, AHOY_ERR_TIMEOUT);
    CHECK(now_ms() - begin_ms >= WRITE_MS - 20);
    if (!is_slow()) CHECK(now_ms() - begin_ms < 10 * WRITE_MS);
    WAIT_UNTIL(stats_of(server).connections == 0);
    CHECK_EQ(stats_of(server).bytes_out + stats_of(server).bytes_cut, 5 + taken * DATAGRAM_BYTES);
    CHECK_EQ(stats_of(server).connections_cut, 1);
    CHECK_EQ(stats_of(server).bytes_queued, 0);
    close(fd);
    ahoy_server_free(server);
}

static void closed_by_overflow(void) {
    ahoy_server server = begin(0, AHOY_OVERFLOW_CLOSE);
    int fd = stuck_peer();
    ahoy_status last;
    fill(tally_conn(&seen), &last);
    CHECK_STATUS(last, AHOY_ERR_OVERFLOW);
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, AHOY_ERR_OVERFLOW);
    close(fd);
    ahoy_server_free(server);
}

int main(void) {
    holdings before = holdings_now();
    refused_and_taken_again();
    closed_after_its_time();
    closed_by_overflow();
    CHECK_HOLDINGS(before);
    return 0;
}
