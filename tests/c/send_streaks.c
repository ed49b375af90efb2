/*
 * Many sends to one connection in a row take a short way. Whatever happens in between, each has the result, the place
 * and the count that it would have alone: a close, an end and an abort, a limit, a mark, a send of another thread, another
 * connection, bad arguments.
 */
#include "wire.h"

#include <unistd.h>

enum { QUEUE_BYTES = 3000, HIGH_BYTES = 2000 };

static tally seen;
static void (*act)(ahoy_conn conn);
static const wire *spoken;
static ahoy_conn other_conn;

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    act(conn);
    tally_message(conn, data, len, user);
}

static void run_of(ahoy_conn conn, int count) {
    for (int i = 0; i < count; i++) CHECK_OK(ahoy_send(conn, "abc", 3));
}

static void then_close(ahoy_conn conn) {
    run_of(conn, 5);
    CHECK_OK(ahoy_conn_close(conn));
    CHECK_STATUS(ahoy_send(conn, "late", 4), AHOY_ERR_CLOSED);
}

static void then_end(ahoy_conn conn) {
    run_of(conn, 5);
    CHECK_OK(ahoy_conn_end(conn));
    CHECK_STATUS(ahoy_send(conn, "late", 4), AHOY_ERR_CLOSED);
}

static void then_abort(ahoy_conn conn) {
    run_of(conn, 5);
    CHECK_OK(ahoy_conn_abort(conn));
    CHECK_STATUS(ahoy_send(conn, "late", 4), AHOY_ERR_CLOSED);
}

static void bad_ones_between(ahoy_conn conn) {
    static char long_one[QUEUE_BYTES + 1];
    run_of(conn, 3);
    CHECK_STATUS(ahoy_send((ahoy_conn){ 0 }, "x", 1), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_send((ahoy_conn){ conn.id + 2 }, "x", 1), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_send((ahoy_conn){ UINT64_MAX }, "x", 1), AHOY_ERR_STALE);
    run_of(conn, 3);
    CHECK_STATUS(ahoy_send(conn, NULL, 1), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_send(conn, long_one, sizeof long_one), AHOY_ERR_TOO_LONG);
    CHECK_STATUS(ahoy_send(conn, long_one, SIZE_MAX), AHOY_ERR_TOO_LONG);
    CHECK_OK(ahoy_send(conn, NULL, 0));
    run_of(conn, 3);
    CHECK_OK(ahoy_conn_close(conn));
}

static ahoy_server begin(void (*action)(ahoy_conn), int32_t overflow, uint32_t high) {
    ahoy_framing_options particulars;
    ahoy_server_options options =
        OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &seen, .queue_bytes_max = QUEUE_BYTES, .overflow = overflow,
                .queue_high_bytes = high, .on_open = tally_open, .on_message = on_message,
                .on_writable = tally_writable, .on_close = tally_close);
    wire_options(spoken, &options, &particulars);
    seen = (tally)TALLY_INIT;
    act = action;
    return start(options);
}

static void ask(int fd) {
    wire_send(spoken, fd, "go", 2);
}

static void expect_run(int fd, int count) {
    for (int i = 0; i < count; i++) wire_expect(spoken, fd, "abc", 3);
}

static void a_close_in_a_row(void (*action)(ahoy_conn), int count) {
    ahoy_server server = begin(action, AHOY_OVERFLOW_REFUSE, 0);
    int fd = dial(server);
    char rest;
    ask(fd);
    if (action == then_abort) {
        CHECK(recv_until_eof(fd, &rest, 1) < 0);
    } else {
        expect_run(fd, action == bad_ones_between ? 6 : count);
        if (action == bad_ones_between && spoken != &wire_raw) wire_expect(spoken, fd, NULL, 0);
        if (action == bad_ones_between) expect_run(fd, 3);
        CHECK_EQ(recv_until_eof(fd, &rest, 1), 0);
    }
    close(fd);
    latch_wait(&seen.closed, 1);
    CHECK_EQ(stats_of(server).messages_out, count);
    CHECK_EQ(stats_of(server).bytes_queued, 0);
    ahoy_server_free(server);
}

/* How many of them fit, by the limit's own arithmetic. */
static int fitting(size_t limit) {
    char frame[WIRE_FRAME_MAX + 3];
    return (int)(limit / wire_encode(spoken, "abc", 3, frame));
}

static void until_full(ahoy_conn conn) {
    run_of(conn, fitting(QUEUE_BYTES));
    CHECK_STATUS(ahoy_send(conn, "abc", 3), AHOY_ERR_AGAIN);
    CHECK_STATUS(ahoy_send(conn, "abc", 3), AHOY_ERR_AGAIN);
}

static void until_overflow(ahoy_conn conn) {
    run_of(conn, fitting(QUEUE_BYTES));
    CHECK_STATUS(ahoy_send(conn, "abc", 3), AHOY_ERR_OVERFLOW);
    CHECK_STATUS(ahoy_send(conn, "abc", 3), AHOY_ERR_CLOSED);
}

static void past_the_mark(ahoy_conn conn) {
    run_of(conn, fitting(HIGH_BYTES) + 2);
}

static void a_limit_in_a_row(void) {
    ahoy_server server = begin(until_full, AHOY_OVERFLOW_REFUSE, 0);
    int fd = dial(server);
    for (long times = 1; times <= 2; times++) {
        ask(fd);
        expect_run(fd, fitting(QUEUE_BYTES));
        latch_wait(&seen.writable, times);
    }
    CHECK_EQ(stats_of(server).messages_refused, 4);
    close(fd);
    ahoy_server_free(server);

    server = begin(until_overflow, AHOY_OVERFLOW_CLOSE, 0);
    fd = dial(server);
    ask(fd);
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, AHOY_ERR_OVERFLOW);
    close(fd);
    ahoy_server_free(server);

    server = begin(past_the_mark, AHOY_OVERFLOW_REFUSE, HIGH_BYTES);
    fd = dial(server);
    ask(fd);
    expect_run(fd, fitting(HIGH_BYTES) + 2);
    latch_wait(&seen.writable, 1);
    close(fd);
    ahoy_server_free(server);
}

static void *send_from_elsewhere(void *conn) {
    CHECK_OK(ahoy_send(*(ahoy_conn *)conn, "elsewhere", 9));
    return NULL;
}

/* It has returned before the next send of the row: it comes before it. */
static void with_another_thread(ahoy_conn conn) {
    for (int i = 0; i < 3; i++) {
        pthread_t thread;
        run_of(conn, 3);
        CHECK(!pthread_create(&thread, NULL, send_from_elsewhere, &conn));
        CHECK(!pthread_join(thread, NULL));
    }
    run_of(conn, 3);
}

static void another_thread_in_a_row(void) {
    ahoy_server server = begin(with_another_thread, AHOY_OVERFLOW_REFUSE, 0);
    int fd = dial(server);
    ask(fd);
    for (int i = 0; i < 3; i++) {
        expect_run(fd, 3);
        wire_expect(spoken, fd, "elsewhere", 9);
    }
    expect_run(fd, 3);
    close(fd);
    ahoy_server_free(server);
}

static void with_another_connection(ahoy_conn conn) {
    if (other_conn.id == 0) {
        other_conn = conn;
        return;
    }
    for (int i = 0; i < 4; i++) {
        run_of(conn, 3);
        run_of(other_conn, 3);
    }
}

static void another_connection_in_a_row(void) {
    ahoy_server server = begin(with_another_connection, AHOY_OVERFLOW_REFUSE, 0);
    other_conn = (ahoy_conn){ 0 };
    int first = dial(server), second = dial(server);
    ask(first);
    latch_wait(&seen.messages, 1);
    ask(second);
    expect_run(first, 12);
    expect_run(second, 12);
    close(first);
    close(second);
    ahoy_server_free(server);
}

int main(void) {
    for (int i = 0; i <= WIRES; i++) {
        spoken = i < WIRES ? &wires[i] : &wire_raw;
        a_close_in_a_row(then_close, 5);
        a_close_in_a_row(then_end, 5);
        a_close_in_a_row(then_abort, 5);
        a_close_in_a_row(bad_ones_between, spoken == &wire_raw ? 9 : 10);
        a_limit_in_a_row();
        another_thread_in_a_row();
        another_connection_in_a_row();
    }
    return 0;
}
