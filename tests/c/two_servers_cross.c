/*
 * Callbacks of one server reach into another: they send to its connections, close them, and free the other
 * server while it does the same to them. Nothing waits for nothing.
 */
#include "support.h"

#include <sys/socket.h>
#include <unistd.h>

enum { CONNS = 4 };

/* One side: its server, its connections, and the side that it meddles with. */
typedef struct side {
    tally seen;
    _Atomic uint64_t server;
    _Atomic uint64_t conns[CONNS];
    atomic_int opened;
    struct side *other;
} side;

static side left, right;

static void on_open(ahoy_conn conn, void *user) {
    side *side = user;
    int place = side->opened++;
    if (place < CONNS) side->conns[place] = conn.id;
    tally_open(conn, &side->seen);
}

/* "s3": send to the other side's connection 3. "c3": close it. "f": free the other side's server. */
static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    side *side = user;
    const char *order = data;
    CHECK(len == 2);
    if (order[0] == 's') {
        CHECK_OK(ahoy_send((ahoy_conn){ side->other->conns[order[1] - '0'] }, "across", 6));
    } else if (order[0] == 'c') {
        CHECK_OK(ahoy_conn_close((ahoy_conn){ side->other->conns[order[1] - '0'] }));
    } else {
        ahoy_server_free((ahoy_server){ side->other->server });
    }
    tally_message(conn, data, len, &side->seen);
}

static void on_close(ahoy_conn conn, ahoy_status reason, void *user) {
    side *side = user;
    /* The other side may be gone, or just going. */
    for (int i = 0; i < CONNS; i++) ahoy_send((ahoy_conn){ side->other->conns[i] }, "gone", 4);
    tally_close(conn, reason, &side->seen);
}

static void on_free(void *user) {
    tally_free(&((side *)user)->seen);
}

static void begin(side *side, int fds[CONNS], int32_t workers) {
    *side = (struct side){ .seen = TALLY_INIT };
    side->other = side == &left ? &right : &left;
    ahoy_server server = start(OPTIONS(.listen = abstract_url(), .workers = workers, .user = side,
                                       .on_open = on_open, .on_message = on_message,
                                       .on_close = on_close, .on_free = on_free));
    side->server = server.id;
    for (int i = 0; i < CONNS; i++) {
        fds[i] = dial(server);
        latch_wait(&side->seen.opened, i + 1);
    }
}

int main(void) {
    for (long round = 0; round < rounds(100); round++) {
        holdings before = holdings_now();
        int left_fds[CONNS], right_fds[CONNS];
        char got[6];
        begin(&left, left_fds, 1 + (int32_t)(round % 2));
        begin(&right, right_fds, 1 + (int32_t)(round / 2 % 2));

        for (int i = 0; i < CONNS; i++) {
            send_all(left_fds[i], (char[]){ 's', (char)('0' + i) }, 2);
            send_all(right_fds[i], (char[]){ 's', (char)('0' + i) }, 2);
        }
        for (int i = 0; i < CONNS; i++) {
            recv_exact(left_fds[i], got, 6);
            CHECK(memcmp(got, "across", 6) == 0);
            recv_exact(right_fds[i], got, 6);
        }
        send_all(left_fds[0], "c0", 2);
        latch_wait(&right.seen.closed, 1);
        CHECK_STATUS(right.seen.reason, AHOY_OK);

        /* Both free each other at once, or one is faster; then the main thread frees what may be freed already. */
        send_all(left_fds[1], "f!", 2);
        (void)!send(right_fds[1], "f!", 2, MSG_NOSIGNAL); /* it may be gone by now */
        if (round % 3) {
            WAIT_UNTIL(latch_count(&left.seen.freed) + latch_count(&right.seen.freed) > 0);
        }
        ahoy_server_free((ahoy_server){ left.server });
        ahoy_server_free((ahoy_server){ right.server });
        latch_wait(&left.seen.freed, 1);
        latch_wait(&right.seen.freed, 1);
        CHECK_EQ(latch_count(&left.seen.closed), CONNS);
        CHECK_EQ(latch_count(&right.seen.closed), CONNS);
        for (int i = 0; i < CONNS; i++) close(left_fds[i]), close(right_fds[i]);
        WAIT_UNTIL(threads_running() == before.threads);
        WAIT_UNTIL(descriptors_open() == before.descriptors);
    }
    return 0;
}
