/*
 * Who has joined a topic is sent what is published there: once, however often it has joined, the publisher included;
 * from callbacks and from other threads; until it leaves or closes. Topics do not mix.
 */
#include "wire.h"

#include <unistd.h>

enum { CONNS = 6 };

static tally seen = TALLY_INIT;
static ahoy_server server;
static ahoy_conn conns[CONNS];
static int fds[CONNS];

/* "+topic", "-topic", or "topic=message": a callback does what the peer says, and answers "ok". */
static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    char text[64] = "", *message;
    memcpy(text, data, len);
    if (text[0] == '+') CHECK_OK(ahoy_conn_join(conn, text + 1));
    else if (text[0] == '-') CHECK_OK(ahoy_conn_leave(conn, text + 1));
    if ((message = strchr(text, '='))) {
        *message++ = '\0';
        CHECK_OK(ahoy_publish(ahoy_conn_server(conn), text, message, strlen(message)));
    }
    CHECK_OK(ahoy_send(conn, "ok", 2));
    tally_message(conn, data, len, user);
}

static void tell(int i, const char *order) {
    wire_send(&wires[0], fds[i], order, strlen(order));
    wire_expect(&wires[0], fds[i], "ok", 2);
}

static void expect(int i, const char *message) {
    wire_expect(&wires[0], fds[i], message, strlen(message));
}

/* A byte that was sent before would come before the answer. */
static void expect_nothing(int i) {
    tell(i, "?");
}

static void *publish_there(void *message) {
    CHECK_OK(ahoy_publish(server, "lobby", message, strlen(message)));
    return NULL;
}

static void publish_from_a_thread(char *message) {
    pthread_t thread;
    CHECK(!pthread_create(&thread, NULL, publish_there, message) && !pthread_join(thread, NULL));
}

int main(void) {
    server = start(OPTIONS(.listen = LOOPBACK, .workers = 2, .user = &seen, .framing = AHOY_FRAMING_LINES,
                           .on_open = tally_open, .on_message = on_message, .on_close = tally_close));
    for (int i = 0; i < CONNS; i++) {
        fds[i] = dial(server);
        latch_wait(&seen.opened, i + 1);
        conns[i] = tally_conn(&seen);
    }
    CHECK_OK(ahoy_publish(server, "lobby", "nobody is there", 15));

    /* 0 and 1 in callbacks, 2 and 3 from here, each of them twice; 4 and 5 not at all. */
    tell(0, "+lobby"), tell(0, "+lobby");
    tell(1, "+lobby"), tell(1, "+lobby");
    for (int i = 2; i < 4; i++) CHECK_OK(ahoy_conn_join(conns[i], "lobby"));
    for (int i = 2; i < 4; i++) CHECK_OK(ahoy_conn_join(conns[i], "lobby"));
    for (int i = 0; i < CONNS; i++) expect_nothing(i); /* the joins have arrived, too */

    wire_send(&wires[0], fds[0], "lobby=one", 9);
    for (int i = 1; i < 4; i++) expect(i, "one");
    char got[8] = ""; /* the publisher is a member; its own answer may come first */
    recv_exact(fds[0], got, 7);
    CHECK(strcmp(got, "one\nok\n") == 0 || strcmp(got, "ok\none\n") == 0);
    tell(5, "lobby=two"); /* this one is not */
    for (int i = 0; i < 4; i++) expect(i, "two");
    publish_from_a_thread("three");
    for (int i = 0; i < 4; i++) expect(i, "three");
    for (int i = 0; i < CONNS; i++) expect_nothing(i);

    /* Two topics, whose names are much alike. */
    tell(4, "+lobby2"), tell(0, "+lobby2"), tell(5, "+Lobby");
    tell(5, "lobby2=four");
    expect(0, "four"), expect(4, "four");
    tell(4, "Lobby=five");
    expect(5, "five");
    tell(4, "lobby=six");
    for (int i = 0; i < 4; i++) expect(i, "six");
    for (int i = 0; i < CONNS; i++) expect_nothing(i);

    /* Who has left hears no more; who was not in it may leave as well. */
    tell(0, "-lobby"), tell(0, "-lobby2"), tell(1, "-lobby2"), tell(1, "-nowhere");
    CHECK_OK(ahoy_conn_leave(conns[2], "lobby"));
    CHECK_OK(ahoy_conn_leave(conns[2], "lobby"));
    CHECK_OK(ahoy_conn_leave(conns[4], "lobby"));
    expect_nothing(2), expect_nothing(4);
    publish_from_a_thread("seven");
    expect(1, "seven"), expect(3, "seven");
    tell(0, "lobby2=eight");
    expect(4, "eight");
    for (int i = 1; i < CONNS; i++) expect_nothing(i);

    /* A close leaves everything: it counts neither as sent nor as missed. */
    CHECK_OK(ahoy_conn_close(conns[1]));
    close(fds[3]);
    latch_wait(&seen.closed, 2);
    WAIT_UNTIL(stats_of(server).connections == CONNS - 2);
    ahoy_stats before = stats_of(server);
    publish_from_a_thread("nobody");
    tell(2, "lobby=nobody");
    ahoy_stats after = stats_of(server);
    CHECK_EQ(after.published - before.published, 2);
    CHECK_EQ(after.messages_out - before.messages_out, 1); /* the "ok" */
    CHECK_EQ(after.published_dropped, 0);
    CHECK_EQ(after.published, 11);

    /* And back again. */
    tell(2, "+lobby");
    publish_from_a_thread("again");
    expect(2, "again");
    for (int i = 0; i < CONNS; i++) if (i != 3) close(fds[i]);
    ahoy_server_free(server);
    return 0;
}
