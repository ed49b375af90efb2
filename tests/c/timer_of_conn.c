/*
 * A timer of a connection runs on the connection's worker, never at the same time as another callback of it, with
 * its handle; it is cancelled when the connection is over, before on_close.
 */
#include "support.h"

#include <unistd.h>

enum { CONNS = 8, TIMERS = 4, MESSAGES = 100 };

typedef struct life {
    _Atomic uint64_t conn;
    atomic_int inside;
    long ticks; /* not atomic: a race would show under TSan */
    atomic_bool closed;
    pthread_t worker;
    latch freed;
} life;

static life lives[CONNS];
static atomic_int opened;
static atomic_bool ending;
static latch closed = LATCH_INIT, ticked = LATCH_INIT;

static void enter(life *life) {
    CHECK_EQ(life->inside++, 0);
    CHECK(!life->closed);
    CHECK(pthread_equal(life->worker, pthread_self()));
    life->ticks++;
}

static void leave(life *life) {
    CHECK_EQ(--life->inside, 0);
}

static void free_timer(void *user) {
    latch_add(&((life *)user)->freed, 1);
}

static void on_timer(ahoy_timer timer, ahoy_conn conn, void *user) {
    life *life = user;
    enter(life);
    CHECK(timer.id != 0);
    CHECK_EQ(conn.id, life->conn);
    ahoy_status status = ahoy_send(conn, "t", 1);
    /* It goes on until the connection is over, also while that is closing. */
    if (!ending || status != AHOY_ERR_CLOSED) CHECK_OK(status);
    leave(life);
    latch_add(&ticked, 1);
}

static void on_open(ahoy_conn conn, void *user) {
    (void)user;
    life *life = &lives[opened++];
    life->worker = pthread_self();
    life->conn = conn.id;
    CHECK_OK(ahoy_conn_set_user(conn, life, NULL));
    enter(life);
    for (int i = 0; i < TIMERS / 2; i++) {
        CHECK_OK(ahoy_conn_timer_start(conn, 0, 1, on_timer, life, free_timer, NULL));
    }
    leave(life);
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    (void)conn, (void)data, (void)len;
    enter(user);
    leave(user);
}

static void on_close(ahoy_conn conn, ahoy_status reason, void *user) {
    (void)conn, (void)reason;
    life *life = user;
    enter(life);
    life->closed = true;
    CHECK_EQ(latch_count(&life->freed), TIMERS);
    leave(life);
    latch_add(&closed, 1);
}

int main(void) {
    for (int i = 0; i < CONNS; i++) lives[i].freed = (latch)LATCH_INIT;
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 2, .on_open = on_open,
                                       .on_message = on_message, .on_close = on_close));
    int fds[CONNS];
    for (int i = 0; i < CONNS; i++) {
        fds[i] = dial(server);
        WAIT_UNTIL(opened == i + 1 && lives[i].conn != 0);
    }
    /* The others from this thread: they run there all the same. */
    for (int i = 0; i < CONNS; i++) {
        for (int j = TIMERS / 2; j < TIMERS; j++) {
            CHECK_OK(ahoy_conn_timer_start((ahoy_conn){ lives[i].conn }, 1, 1, on_timer, &lives[i], free_timer, NULL));
        }
    }
    for (long message = rounds(MESSAGES); message > 0; message--) {
        for (int i = 0; i < CONNS; i++) send_all(fds[i], "message", 7);
    }
    latch_wait(&ticked, 10 * CONNS * TIMERS);
    CHECK_EQ(stats_of(server).timers, CONNS * TIMERS);

    /* In every way that a connection can end. */
    ending = true;
    for (int i = 0; i < CONNS; i++) {
        ahoy_conn conn = { lives[i].conn };
        if (i % 4 == 0) close(fds[i]);
        else if (i % 4 == 1) CHECK_OK(ahoy_conn_close(conn));
        else if (i % 4 == 2) CHECK_OK(ahoy_conn_abort(conn));
        else close_reset(fds[i]);
    }
    latch_wait(&closed, CONNS);
    WAIT_UNTIL(stats_of(server).timers == 0);
    for (int i = 0; i < CONNS; i++) {
        CHECK_EQ(latch_count(&lives[i].freed), TIMERS);
        if (i % 4 == 1 || i % 4 == 2) close(fds[i]);
    }
    ahoy_server_free(server);
    return 0;
}
