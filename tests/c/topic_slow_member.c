/*
 * A member that does not read holds up nobody. AHOY_OVERFLOW_REFUSE: it misses what finds its queue full, which is
 * counted, and on_writable tells when there is room; AHOY_OVERFLOW_CLOSE: it is closed. The others get everything.
 * Only when `queue_total_bytes_max` is reached a publish is refused, to all of them.
 */
#include "wire.h"

#include <sys/socket.h>
#include <unistd.h>

enum { OTHERS = 4, PIECE_BYTES = 10000, QUEUE_BYTES = 100000, MESSAGES = 200 };

static tally seen;
static _Atomic uint64_t slow_conn;
static latch writable;

static void on_writable(ahoy_conn conn, void *user) {
    (void)user;
    CHECK_EQ(conn.id, slow_conn);
    CHECK(ahoy_conn_queued(conn) <= QUEUE_BYTES / 2);
    latch_add(&writable, 1);
}

static ahoy_server server;
static int slow, others[OTHERS];

static void begin(int32_t overflow) {
    seen = (tally)TALLY_INIT;
    writable = (latch)LATCH_INIT;
    server = start(OPTIONS(.listen = abstract_url(), .workers = 2, .user = &seen, .overflow = overflow,
                           .framing = AHOY_FRAMING_LENGTH, .queue_bytes_max = QUEUE_BYTES,
                           .on_open = tally_open, .on_message = tally_message, .on_writable = on_writable,
                           .on_close = tally_close));
    slow = dial(server);
    latch_wait(&seen.opened, 1);
    slow_conn = seen.conn;
    CHECK_OK(ahoy_conn_join(tally_conn(&seen), "news"));
    for (int i = 0; i < OTHERS; i++) {
        others[i] = dial(server);
        latch_wait(&seen.opened, i + 2);
        CHECK_OK(ahoy_conn_join(tally_conn(&seen), "news"));
    }
}

/* The n-th message says its number; each of the others reads it at once. */
static void publish(uint32_t number) {
    static char message[PIECE_BYTES];
    letters_fill(message, sizeof message, number);
    memcpy(message, &number, sizeof number);
    CHECK_OK(ahoy_publish(server, "news", message, sizeof message));
    for (int i = 0; i < OTHERS; i++) wire_expect(&wires[4], others[i], message, sizeof message);
}

static void end(void) {
    close(slow);
    for (int i = 0; i < OTHERS; i++) close(others[i]);
    ahoy_server_free(server);
}

/* Reads what the slow one has got: whole messages, in order, some of them missing. */
static long read_slowly(long count, uint32_t *last) {
    char frame[4 + PIECE_BYTES], expected[PIECE_BYTES];
    uint32_t number;
    for (long i = 0; i < count; i++) {
        recv_exact(slow, frame, sizeof frame);
        memcpy(&number, frame + 4, sizeof number);
        CHECK(number > *last || (number == 0 && i == 0));
        letters_fill(expected, sizeof expected, number);
        CHECK(memcmp(frame + 8, expected + 4, sizeof expected - 4) == 0);
        *last = number;
    }
    return count;
}

static void refused(void) {
    begin(AHOY_OVERFLOW_REFUSE);
    uint32_t number = 0, last = 0;
    while (stats_of(server).published_dropped < 20) publish(number++);
    CHECK(number < MESSAGES);
    /* The slow one's worker may be behind, and what the others have read may be counted for a moment. */
    ahoy_stats stats;
    WAIT_UNTIL((stats = stats_of(server), stats.bytes_queued <= QUEUE_BYTES &&
                stats.messages_out + stats.published_dropped == number * (1 + OTHERS)));
    CHECK_EQ(stats.published, number);
    CHECK_EQ(stats.messages_refused, 0); /* no send was */
    CHECK_EQ(latch_count(&writable), 0);

    read_slowly(number - (long)stats.published_dropped, &last);
    latch_wait(&writable, 1);
    CHECK(last < number - 1);

    /* From now on it is a member like others. */
    uint32_t again = number;
    publish(number++), publish(number++);
    read_slowly(2, &last);
    CHECK_EQ(last, again + 1);
    CHECK_EQ(latch_count(&writable), 1);
    CHECK_EQ(latch_count(&seen.closed), 0);
    CHECK_EQ(stats_of(server).published_dropped, stats.published_dropped);
    end();
}

static void closed(void) {
    begin(AHOY_OVERFLOW_CLOSE);
    uint32_t number = 0;
    while (latch_count(&seen.closed) == 0) {
        publish(number++);
        CHECK(number < MESSAGES);
    }
    CHECK_STATUS(seen.reason, AHOY_ERR_OVERFLOW);
    for (int i = 0; i < 10; i++) publish(number++);
    CHECK_EQ(latch_count(&seen.closed), 1);
    CHECK_EQ(latch_count(&writable), 0);
    WAIT_UNTIL(stats_of(server).connections == OTHERS);
    ahoy_stats stats = stats_of(server);
    CHECK_EQ(stats.connections_cut, 1);
    CHECK(stats.bytes_cut > 0);
    CHECK_EQ(stats.published, number);
    end();
}

/* Ten that do not read, each of which may queue as much as all of them together. */
static void total_reached(void) {
    enum { MEMBERS = 10, TOTAL_BYTES = 400000 };
    static char message[PIECE_BYTES];
    int fds[MEMBERS];
    seen = (tally)TALLY_INIT;
    server = start(OPTIONS(.listen = abstract_url(), .workers = 1, .user = &seen,
                           .queue_bytes_max = TOTAL_BYTES / 16 * 15, .queue_total_bytes_max = TOTAL_BYTES,
                           .on_open = tally_open, .on_message = tally_message, .on_close = tally_close));
    for (int i = 0; i < MEMBERS; i++) {
        fds[i] = dial(server);
        latch_wait(&seen.opened, i + 1);
        CHECK_OK(ahoy_conn_join(tally_conn(&seen), "news"));
    }
    ahoy_status status;
    for (int n = 0; !(status = ahoy_publish(server, "news", message, sizeof message)); n++) CHECK(n < 10 * MESSAGES);
    CHECK_STATUS(status, AHOY_ERR_AGAIN);
    CHECK_EQ(latch_count(&seen.closed), 0);
    ahoy_stats stats = stats_of(server);
    CHECK_EQ(stats.messages_refused, 0);

    /* Those who leave make room again. */
    for (int i = 1; i < MEMBERS; i++) close(fds[i]);
    latch_wait(&seen.closed, MEMBERS - 1);
    static char buffer[65536];
    while (ahoy_publish(server, "news", "end", 3) == AHOY_ERR_AGAIN) {
        CHECK(recv(fds[0], buffer, sizeof buffer, 0) > 0);
    }
    close(fds[0]);
    latch_wait(&seen.closed, MEMBERS);
    WAIT_UNTIL(stats_of(server).bytes_queued == 0);
    ahoy_server_free(server);
}

int main(void) {
    refused();
    closed();
    total_reached();
    return 0;
}
