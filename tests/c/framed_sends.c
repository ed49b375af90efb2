/*
 * What the program sends gets the frame of its connection: each kind of send, a greeting, an empty message, from a
 * callback and from another thread; the bytes on the wire are checked. Without framing nothing is added.
 */
#include "wire.h"

#include <sys/socket.h>
#include <unistd.h>

enum { OWNED_BYTES = 200 };

static tally seen;
static latch freed;
static const wire *spoken;

static void free_owned(void *memory) {
    free(memory);
    latch_add(&freed, 1);
}

static void send_each_kind(ahoy_conn conn) {
    const ahoy_part parts[] = { { "a ", 2 }, { NULL, 0 }, { "message", 7 }, { "", 0 }, { " in parts", 9 } };
    ahoy_part many[100];
    char *owned = malloc(OWNED_BYTES);
    letters_fill(owned, OWNED_BYTES, 0);
    for (int i = 0; i < 100; i++) many[i] = (ahoy_part){ &"0123456789"[i % 10], 1 };

    CHECK_OK(ahoy_send(conn, "plain", 5));
    CHECK_OK(ahoy_send(conn, NULL, 0));
    CHECK_OK(ahoy_send_parts(conn, parts, 5));
    CHECK_OK(ahoy_send_owned(conn, owned, OWNED_BYTES, free_owned, owned));
    CHECK_OK(ahoy_send_parts(conn, NULL, 0));
    CHECK_OK(ahoy_conn_greet(conn));
    CHECK_OK(ahoy_send_owned(conn, "static", 6, NULL, NULL));
    CHECK_OK(ahoy_send_owned(conn, NULL, 0, NULL, NULL));
    CHECK_OK(ahoy_send_parts(conn, many, 100));
    CHECK_OK(ahoy_send(conn, "last", 4));
}

static void expect_each_kind(int fd) {
    char owned[OWNED_BYTES], many[100];
    bool frames = spoken->framing != AHOY_FRAMING_RAW;
    letters_fill(owned, OWNED_BYTES, 0);
    for (int i = 0; i < 100; i++) many[i] = "0123456789"[i % 10];

    wire_expect(spoken, fd, "plain", 5);
    if (frames) wire_expect(spoken, fd, NULL, 0);
    wire_expect(spoken, fd, "a message in parts", 18);
    wire_expect(spoken, fd, owned, OWNED_BYTES);
    if (frames) wire_expect(spoken, fd, NULL, 0);
    wire_expect(spoken, fd, "Hello, frames", 13);
    wire_expect(spoken, fd, "static", 6);
    if (frames) wire_expect(spoken, fd, NULL, 0);
    wire_expect(spoken, fd, many, 100);
    wire_expect(spoken, fd, "last", 4);
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    send_each_kind(conn);
    tally_message(conn, data, len, user);
}

static ahoy_server begin(ahoy_message_fn on_message, int32_t greet) {
    ahoy_framing_options particulars;
    ahoy_server_options options = OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &seen, .greet = greet,
                                          .greeting = "Hello, frames", .on_open = tally_open,
                                          .on_message = on_message, .on_close = tally_close);
    wire_options(spoken, &options, &particulars);
    seen = (tally)TALLY_INIT;
    freed = (latch)LATCH_INIT;
    return start(options);
}

static void by_the_program(void) {
    ahoy_server server = begin(on_message, AHOY_GREET_AUTO);
    int fd = dial(server);
    wire_send(spoken, fd, "go", 2);
    expect_each_kind(fd);
    latch_wait(&seen.messages, 1);
    latch_wait(&freed, 1);
    send_each_kind(tally_conn(&seen)); /* from this thread */
    expect_each_kind(fd);
    latch_wait(&freed, 2);

    char rest;
    CHECK_OK(ahoy_conn_close(tally_conn(&seen)));
    CHECK_EQ(recv_until_eof(fd, &rest, 1), 0); /* nothing more was sent */
    close(fd);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&freed), 2);
}

/* Without handlers the first message is answered, once it is whole. */
static void by_the_server(void) {
    char bytes[64], rest;
    ahoy_server server = begin(NULL, AHOY_GREET_AUTO);
    int fd = dial(server);
    size_t len = wire_encode(spoken, "hi", 2, bytes);
    if (spoken->framing != AHOY_FRAMING_RAW) send_pieces(server, fd, bytes, len, 1);
    else send_all(fd, bytes, len);
    wire_expect(spoken, fd, "Hello, frames", 13);
    CHECK_EQ(recv_until_eof(fd, &rest, 1), 0);
    close(fd);
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, AHOY_OK);
    CHECK_EQ(stats_of(server).messages_in, 1);
    CHECK_EQ(stats_of(server).messages_out, 1);
    ahoy_server_free(server);

    server = begin(tally_message, AHOY_GREET_ON_OPEN);
    fd = dial(server);
    wire_expect(spoken, fd, "Hello, frames", 13);
    wire_send(spoken, fd, "thanks", 6);
    latch_wait(&seen.messages, 1);
    CHECK_EQ(latch_count(&seen.bytes), 6);
    close(fd);
    ahoy_server_free(server);
}

int main(void) {
    for (int i = 0; i <= WIRES; i++) {
        spoken = i < WIRES ? &wires[i] : &wire_raw;
        by_the_program();
        by_the_server();
    }
    return 0;
}
