/*
 * `queue_high_bytes`: from there on on_writable is owed, though sends are still taken; `queue_low_bytes`: it comes
 * when no more than that waits. Once for each time, in callbacks and from other threads; never without cause.
 */
#include "wire.h"

#include <unistd.h>

enum { PIECE_BYTES = 10000, HIGH_BYTES = 300000, LOW_BYTES = 50000, QUEUE_BYTES = 600000 };

static tally seen;
static uint32_t low_bytes;
static size_t to_send; /* by the next message */

static void on_writable(ahoy_conn conn, void *user) {
    CHECK(ahoy_conn_queued(conn) <= low_bytes);
    tally_writable(conn, user);
}

static void send_pieces_of(ahoy_conn conn, size_t bytes) {
    static const char piece[PIECE_BYTES];
    for (size_t sent = 0; sent < bytes; sent += PIECE_BYTES) CHECK_OK(ahoy_send(conn, piece, PIECE_BYTES));
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    send_pieces_of(conn, to_send);
    tally_message(conn, data, len, user);
}

static ahoy_server begin(uint32_t high, uint32_t low, uint32_t queue) {
    seen = (tally)TALLY_INIT;
    low_bytes = low ? low : (high ? high : queue) / 2;
    return start(OPTIONS(.listen = abstract_url(), .workers = 1, .user = &seen, .queue_bytes_max = queue,
                         .queue_high_bytes = high, .queue_low_bytes = low, .on_open = tally_open,
                         .on_message = on_message, .on_writable = on_writable, .on_close = tally_close));
}

static void read_pieces_of(int fd, size_t bytes) {
    char piece[PIECE_BYTES];
    for (size_t got = 0; got < bytes; got += PIECE_BYTES) recv_exact(fd, piece, PIECE_BYTES);
}

/* Sends until the system takes no more: a turn ends with sending, or the next begins with it and ends with what came of
 * that; the third round trip needs one more. */
static size_t fill_system(ahoy_server server, ahoy_conn conn) {
    size_t sent = 0;
    do {
        send_pieces_of(conn, PIECE_BYTES);
        sent += PIECE_BYTES;
        round_trip(server), round_trip(server), round_trip(server);
    } while (ahoy_conn_queued(conn) == 0);
    return sent;
}

static void between_the_marks(uint32_t high, uint32_t low) {
    ahoy_server server = begin(high, low, QUEUE_BYTES);
    int fd = dial(server);
    long asked = 0, refused_in_all = 0;

    /* Below the mark nothing is owed. */
    to_send = HIGH_BYTES - PIECE_BYTES;
    send_all(fd, "x", 1);
    latch_wait(&seen.messages, ++asked);
    read_pieces_of(fd, to_send);
    WAIT_UNTIL(stats_of(server).bytes_queued == 0);
    CHECK_EQ(latch_count(&seen.writable), 0);

    /* At the mark it is, and above it no more than once. */
    for (long times = 1; times <= 3; times++) {
        to_send = HIGH_BYTES + (size_t)(times - 1) * PIECE_BYTES;
        send_all(fd, "x", 1);
        latch_wait(&seen.messages, ++asked);
        read_pieces_of(fd, to_send);
        latch_wait(&seen.writable, times);
    }

    /* From here, once the system takes no more: the peer does not read until the queue is over the mark. */
    ahoy_conn conn = tally_conn(&seen);
    size_t sent = fill_system(server, conn);
    while (ahoy_conn_queued(conn) < HIGH_BYTES) {
        send_pieces_of(conn, PIECE_BYTES);
        sent += PIECE_BYTES;
    }
    send_pieces_of(conn, 2 * PIECE_BYTES);
    round_trip(server);
    CHECK_EQ(latch_count(&seen.writable), 3);
    read_pieces_of(fd, sent + 2 * PIECE_BYTES);
    latch_wait(&seen.writable, 4);
    WAIT_UNTIL(stats_of(server).bytes_queued == 0);

    /* A refusal above the mark is the same time as the mark itself. */
    sent = fill_system(server, conn);
    static const char piece[PIECE_BYTES];
    ahoy_status status = AHOY_OK;
    long refused = 0;
    while (refused < 2) {
        while (!(status = ahoy_send(conn, piece, PIECE_BYTES))) sent += PIECE_BYTES, refused = 0;
        CHECK_STATUS(status, AHOY_ERR_AGAIN);
        refused++, refused_in_all++;
        /* What the worker takes over counts twice for a moment: then it is a refusal before the time. */
        round_trip(server);
    }
    CHECK_EQ(latch_count(&seen.writable), 4);
    read_pieces_of(fd, sent);
    latch_wait(&seen.writable, 5);
    WAIT_UNTIL(stats_of(server).bytes_queued == 0);

    /* One more round trip: no on_writable was on its way. */
    to_send = PIECE_BYTES;
    send_all(fd, "x", 1);
    latch_wait(&seen.messages, ++asked);
    read_pieces_of(fd, to_send);
    CHECK_EQ(latch_count(&seen.writable), 5);
    CHECK_EQ(stats_of(server).messages_refused, refused_in_all);
    close(fd);
    ahoy_server_free(server);
}

static void *read_to_the_end(void *fd) {
    static char buffer[65536];
    CHECK(recv_until_eof(*(int *)fd, buffer, sizeof buffer) >= 0);
    return NULL;
}

/*
 * What the marks are for: a producer that stops when it sees the high one, and goes on when it is told. However the
 * bytes travel meanwhile, it is told each time.
 */
static void a_producer_that_waits(void) {
    ahoy_server server = begin(HIGH_BYTES, LOW_BYTES, QUEUE_BYTES);
    int fd = dial(server);
    pthread_t reader;
    CHECK(!pthread_create(&reader, NULL, read_to_the_end, &fd));
    latch_wait(&seen.opened, 1);
    ahoy_conn conn = tally_conn(&seen);
    for (long times = rounds(300); times > 0; times--) {
        long before = latch_count(&seen.writable);
        while (ahoy_conn_queued(conn) < HIGH_BYTES) send_pieces_of(conn, PIECE_BYTES);
        latch_wait(&seen.writable, before + 1);
    }
    CHECK_OK(ahoy_conn_close(conn));
    CHECK(!pthread_join(reader, NULL));
    close(fd);
    ahoy_server_free(server);
}

static void refuse(uint32_t high, uint32_t low, uint32_t queue, int32_t overflow, ahoy_status expected) {
    ahoy_server server = { 77 };
    ahoy_server_options options = OPTIONS(.listen = LOOPBACK, .queue_bytes_max = queue,
                                          .queue_high_bytes = high, .queue_low_bytes = low,
                                          .overflow = overflow);
    CHECK_STATUS(ahoy_server_start(&options, &server), expected);
    CHECK_EQ(server.id, 77);
    CHECK(strlen(ahoy_last_error()) > 0);
}

static void bad_marks(void) {
    refuse(100, 101, 1000, 0, AHOY_ERR_INVALID);
    refuse(1001, 0, 1000, 0, AHOY_ERR_INVALID);
    refuse(0, 1001, 1000, 0, AHOY_ERR_INVALID);
    refuse((1 << 20) + 1, 0, 0, 0, AHOY_ERR_INVALID); /* over the default */
    refuse(UINT32_MAX, UINT32_MAX, 0, 0, AHOY_ERR_INVALID);
    refuse(0, 0, 0, 2, AHOY_ERR_ENUM);
    refuse(0, 0, 0, -1, AHOY_ERR_ENUM);
    /* The ends of the ranges are inside. */
    ahoy_server_free(begin(1000, 1000, 1000));
    ahoy_server_free(begin(1, 1, 1000));
}

int main(void) {
    between_the_marks(HIGH_BYTES, LOW_BYTES);
    between_the_marks(HIGH_BYTES, HIGH_BYTES / 2);
    between_the_marks(HIGH_BYTES, 0);
    a_producer_that_waits();
    bad_marks();
    return 0;
}
