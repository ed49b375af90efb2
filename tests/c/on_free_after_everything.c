/*
 * The order of an end: on_open, messages, on_end, on_close, the connection's on_free; and after the last of
 * all connections the server's on_free, once, with ahoy_server_wait returning after it.
 */
#include "support.h"

#include <sys/socket.h>
#include <unistd.h>

enum { CONNS = 20 };

/* The steps of one connection, in their order. */
typedef enum step { NEW, OPENED, TALKED, ENDED, CLOSED, FREED } step;

static _Atomic step steps[CONNS];
static atomic_int opened, freed;
static atomic_bool server_freed;

static void advance(void *user, step from, step to) {
    _Atomic step *now = user;
    CHECK(!server_freed);
    CHECK_EQ(*now, from);
    *now = to;
}

static void free_conn_user(void *user) {
    CHECK(!server_freed);
    step now = *(_Atomic step *)user;
    CHECK_EQ(now, CLOSED);
    *(_Atomic step *)user = FREED;
    freed++;
}

static void on_open(ahoy_conn conn, void *user) {
    CHECK(user == &freed);
    _Atomic step *mine = &steps[opened++];
    advance(mine, NEW, OPENED);
    CHECK_OK(ahoy_conn_set_user(conn, mine, free_conn_user));
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    (void)conn, (void)data, (void)len;
    if (*(_Atomic step *)user != TALKED) advance(user, OPENED, TALKED);
}

static void on_end(ahoy_conn conn, void *user) {
    (void)conn;
    advance(user, TALKED, ENDED);
}

static void on_close(ahoy_conn conn, ahoy_status reason, void *user) {
    (void)conn;
    CHECK_STATUS(reason, AHOY_ERR_STOPPED);
    step now = *(_Atomic step *)user;
    CHECK(now == OPENED || now == TALKED || now == ENDED);
    *(_Atomic step *)user = CLOSED;
}

static void on_free(void *user) {
    CHECK(user == &freed);
    CHECK(!server_freed);
    CHECK_EQ(freed, opened); /* everything else is over */
    for (int i = 0; i < opened; i++) CHECK_EQ(steps[i], FREED);
    server_freed = true;
}

static void *wait_for_the_end(void *server) {
    CHECK_OK(ahoy_server_wait(*(ahoy_server *)server));
    CHECK(server_freed);
    return NULL;
}

int main(void) {
    for (long round = 0; round < rounds(50); round++) {
        int fds[CONNS];
        pthread_t waiter;
        for (int i = 0; i < CONNS; i++) steps[i] = NEW;
        opened = freed = 0;
        server_freed = false;
        ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 1 + (int32_t)(round % 3),
                                           .user = &freed, .on_open = on_open,
                                           .on_message = on_message, .on_end = on_end,
                                           .on_close = on_close, .on_free = on_free));
        CHECK(!pthread_create(&waiter, NULL, wait_for_the_end, &server));
        for (int i = 0; i < CONNS; i++) {
            fds[i] = dial(server);
            if (i % 3) send_all(fds[i], "hello", 5);
            if (i % 3 == 2) CHECK(!shutdown(fds[i], SHUT_WR));
        }
        WAIT_UNTIL(opened == CONNS);
        CHECK_OK(ahoy_server_stop(server, AHOY_DRAIN_DEFAULT));
        CHECK(!pthread_join(waiter, NULL));
        CHECK_EQ(freed, CONNS);
        ahoy_server_free(server);
        for (int i = 0; i < CONNS; i++) close(fds[i]);
    }
    return 0;
}
