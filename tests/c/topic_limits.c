/*
 * A connection is in at most 1,024 topics; then a join answers AHOY_ERR_AGAIN until it leaves one. Joining again what
 * it has joined is no further topic; a close gives all of them back. Many topics of many connections do not mix.
 */
#include "wire.h"

#include <unistd.h>

enum { TOPICS_MAX = 1024 };

static tally seen = TALLY_INIT;
static ahoy_server server;

static const char *name(int number) {
    static _Thread_local char text[32];
    snprintf(text, sizeof text, "topic %d", number);
    return text;
}

/* A full worker's mailbox is told by the same status: that one passes. */
static ahoy_status join(ahoy_conn conn, int number) {
    ahoy_status status = ahoy_conn_join(conn, name(number));
    for (int tries = 0; status == AHOY_ERR_AGAIN && tries < 20; tries++) {
        wait_moment();
        status = ahoy_conn_join(conn, name(number));
    }
    return status;
}

/* Another thread may ask for too many, too: that it is one too many shows only later, on the worker. */
static void fill(ahoy_conn conn, bool in_a_callback) {
    for (int i = 0; i < TOPICS_MAX; i++) CHECK_OK(join(conn, i));
    for (int i = 0; i < 3; i++) {
        ahoy_status status = join(conn, TOPICS_MAX + i);
        CHECK(status == AHOY_ERR_AGAIN || (status == AHOY_OK && !in_a_callback));
    }
    CHECK_OK(join(conn, 0));
    CHECK_OK(join(conn, TOPICS_MAX - 1));
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    switch (*(const char *)data) {
    case 'f':
        fill(conn, true);
        CHECK_OK(ahoy_conn_leave(conn, name(7)));
        CHECK_OK(ahoy_conn_join(conn, "one more"));
        CHECK_STATUS(ahoy_conn_join(conn, name(7)), AHOY_ERR_AGAIN);
        break;
    case 'l':
        for (int i = 0; i < TOPICS_MAX; i++) CHECK_OK(ahoy_conn_leave(conn, name(i)));
        break;
    }
    tally_message(conn, data, len, user);
}

static void publish_to_all(void) {
    for (int i = 0; i < TOPICS_MAX + 3; i++) { /* nobody is in the last ones */
        ahoy_status status;
        while ((status = ahoy_publish(server, name(i), name(i), strlen(name(i)))) == AHOY_ERR_AGAIN) wait_moment();
        CHECK_OK(status);
    }
    CHECK_OK(ahoy_publish(server, "one more", "more", 4));
}

static void expect_all(int fd, int but) {
    for (int i = 0; i < TOPICS_MAX; i++) {
        if (i != but) wire_expect(&wires[0], fd, name(i), strlen(name(i)));
    }
}

int main(void) {
    server = start(OPTIONS(.listen = LOOPBACK, .workers = 2, .user = &seen, .framing = AHOY_FRAMING_LINES,
                           .on_open = tally_open, .on_message = on_message, .on_close = tally_close));
    int fds[2];
    ahoy_conn conns[2];
    for (int i = 0; i < 2; i++) {
        fds[i] = dial(server);
        latch_wait(&seen.opened, i + 1);
        conns[i] = tally_conn(&seen);
    }
    /* In a callback, and from another thread. */
    send_all(fds[0], "f\n", 2);
    latch_wait(&seen.messages, 1);
    fill(conns[1], false);
    publish_to_all();
    expect_all(fds[0], 7);
    wire_expect(&wires[0], fds[0], "more", 4);
    expect_all(fds[1], -1);

    send_all(fds[0], "l\n", 2);
    latch_wait(&seen.messages, 2);
    publish_to_all();
    wire_expect(&wires[0], fds[0], "more", 4); /* the only one left */
    expect_all(fds[1], -1);
    fill(conns[1], false);

    /* Another connection takes the place of one that was full: it is in no topic. */
    close(fds[1]);
    latch_wait(&seen.closed, 1);
    fds[1] = dial(server);
    latch_wait(&seen.opened, 3);
    publish_to_all();
    wire_expect(&wires[0], fds[0], "more", 4);
    fill(tally_conn(&seen), false);
    CHECK_OK(ahoy_publish(server, name(0), "first", 5));
    wire_expect(&wires[0], fds[1], "first", 5);
    close(fds[0]), close(fds[1]);
    ahoy_server_free(server);
    return 0;
}
