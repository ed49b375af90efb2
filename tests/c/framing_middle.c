/*
 * In the middle of the messages that one read gave the program closes, aborts, pauses or ends its side. After a
 * close no further message comes; after a pause the rest comes with the resume, in order, before anything
 * that was sent later.
 */
#include "wire.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

static journal heard;
static void (*act)(ahoy_conn conn);

/* At the third message, something happens. */
static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    if (act && len == 5 && memcmp(data, "three", 5) == 0) act(conn);
    journal_message(conn, data, len, user);
}

static const char *const messages[] = { "one", "two", "three", "", "five" };

static int send_at_once(ahoy_server server, const wire *wire) {
    char bytes[256];
    size_t len = 0;
    for (int i = 0; i < 5; i++) len += wire_encode(wire, messages[i], strlen(messages[i]), bytes + len);
    int fd = dial(server);
    send_all(fd, bytes, len);
    return fd;
}

static ahoy_server begin(const wire *wire, void (*what)(ahoy_conn)) {
    ahoy_framing_options particulars;
    ahoy_server_options options = OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &heard,
                                          .on_open = tally_open, .on_message = on_message,
                                          .on_close = tally_close);
    wire_options(wire, &options, &particulars);
    heard = (journal)JOURNAL_INIT;
    act = what;
    return start(options);
}

static void close_it(ahoy_conn conn) {
    CHECK_OK(ahoy_conn_close(conn));
}

static void send_and_close(ahoy_conn conn) {
    CHECK_OK(ahoy_send(conn, "bye", 3));
    CHECK_OK(ahoy_conn_close(conn));
    CHECK_STATUS(ahoy_send(conn, "more", 4), AHOY_ERR_CLOSED);
}

static void abort_it(ahoy_conn conn) {
    CHECK_OK(ahoy_conn_abort(conn));
}

static void pause_it(ahoy_conn conn) {
    CHECK_OK(ahoy_conn_pause(conn));
}

static void pause_and_resume(ahoy_conn conn) {
    CHECK_OK(ahoy_conn_pause(conn));
    CHECK_OK(ahoy_conn_resume(conn));
}

static void end_it(ahoy_conn conn) {
    CHECK_OK(ahoy_conn_end(conn));
}

static void no_message_after_a_close(const wire *wire, void (*how)(ahoy_conn), ssize_t end) {
    char byte;
    ahoy_server server = begin(wire, how);
    int fd = send_at_once(server, wire);
    if (how == send_and_close) wire_expect(wire, fd, "bye", 3);
    CHECK_EQ(recv_until_eof(fd, &byte, 1), end);
    latch_wait(&heard.seen.closed, 1);
    CHECK_STATUS(heard.seen.reason, AHOY_OK);
    CHECK_TEXT(heard.text, "one|two|three|");
    CHECK_EQ(stats_of(server).messages_in, 3);
    close(fd);
    ahoy_server_free(server);
}

static void the_rest_after_a_pause(const wire *wire, bool peer_leaves) {
    ahoy_server server = begin(wire, pause_it);
    int fd = send_at_once(server, wire);
    latch_wait(&heard.seen.messages, 3);
    ahoy_conn conn = tally_conn(&heard.seen);
    wire_send(wire, fd, "six", 3);
    if (peer_leaves) CHECK(!shutdown(fd, SHUT_WR));
    round_trip(server);
    CHECK_TEXT(heard.text, "one|two|three|");

    CHECK_OK(ahoy_conn_resume(conn));
    latch_wait(&heard.seen.messages, 6);
    CHECK_TEXT(heard.text, "one|two|three||five|six|");
    close(fd);
    latch_wait(&heard.seen.closed, 2); /* the round trip's is one of them */
    CHECK_EQ(heard.seen.reasons[-AHOY_ERR_EOF], 1);
    CHECK_EQ(heard.seen.reasons[-AHOY_OK], 1);
    ahoy_server_free(server);
}

/* What waits behind a pause is thrown away by a close, and holds up neither the close nor the stop. */
static void closed_while_paused(const wire *wire, bool by_stop) {
    char byte;
    ahoy_server server = begin(wire, pause_it);
    int fd = send_at_once(server, wire);
    latch_wait(&heard.seen.messages, 3);
    if (by_stop) CHECK_OK(ahoy_server_stop(server, AHOY_DRAIN_DEFAULT));
    else CHECK_OK(ahoy_conn_close(tally_conn(&heard.seen)));
    CHECK_EQ(recv_until_eof(fd, &byte, 1), 0);
    latch_wait(&heard.seen.closed, 1);
    CHECK_STATUS(heard.seen.reason, by_stop ? AHOY_ERR_STOPPED : AHOY_OK);
    CHECK_TEXT(heard.text, "one|two|three|");
    close(fd);
    ahoy_server_free(server);
}

static void goes_on(const wire *wire, void (*how)(ahoy_conn)) {
    ahoy_server server = begin(wire, how);
    int fd = send_at_once(server, wire);
    latch_wait(&heard.seen.messages, 5);
    CHECK_TEXT(heard.text, "one|two|three||five|");
    close(fd);
    latch_wait(&heard.seen.closed, 1);
    ahoy_server_free(server);
}

/* A pause at each single message: as many resumes as messages, and none comes by itself. */
static void pause_each(ahoy_conn conn, const void *data, size_t len, void *user) {
    CHECK_OK(ahoy_conn_pause(conn));
    journal_message(conn, data, len, user);
}

static void one_at_a_time(const wire *wire) {
    ahoy_framing_options particulars;
    ahoy_server_options options = OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &heard,
                                          .on_open = tally_open, .on_message = pause_each);
    wire_options(wire, &options, &particulars);
    heard = (journal)JOURNAL_INIT;
    ahoy_server server = start(options);
    int fd = send_at_once(server, wire);
    latch_wait(&heard.seen.opened, 1);
    ahoy_conn conn = tally_conn(&heard.seen);
    for (long count = 1; count <= 5; count++) {
        latch_wait(&heard.seen.messages, count);
        round_trip(server);
        CHECK_EQ(latch_count(&heard.seen.messages), count);
        CHECK_OK(ahoy_conn_resume(conn));
    }
    CHECK_TEXT(heard.text, "one|two|three||five|");
    close(fd);
    ahoy_server_free(server);
}

int main(void) {
    for (int i = 0; i < WIRES; i++) {
        const wire *wire = &wires[i];
        no_message_after_a_close(wire, close_it, 0);
        no_message_after_a_close(wire, send_and_close, 0);
        no_message_after_a_close(wire, abort_it, -ECONNRESET);
        the_rest_after_a_pause(wire, false);
        the_rest_after_a_pause(wire, true);
        closed_while_paused(wire, false);
        closed_while_paused(wire, true);
        goes_on(wire, pause_and_resume);
        goes_on(wire, end_it);
        one_at_a_time(wire);
    }
    return 0;
}
