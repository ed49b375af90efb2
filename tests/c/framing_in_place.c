/*
 * The whole messages of one read are all handed on, in order and in place: their bytes lie one behind the other in
 * one buffer, as they came. Only the one that was not complete is kept and copied.
 */
#include "wire.h"

#include <unistd.h>

enum { MESSAGES = 16, BYTES = 64 };

static tally seen;
static const char *places[2 * MESSAGES];
static size_t lengths[2 * MESSAGES];

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    (void)conn, (void)user;
    long number = latch_count(&seen.messages);
    CHECK(number < 2 * MESSAGES);
    CHECK(letters_match(data, len, (size_t)number));
    places[number] = data;
    lengths[number] = len;
    latch_add(&seen.messages, 1);
}

/* From the message `first` on, each starts where the one before ends and its frame has passed. */
static void check_places(const wire *wire, long first, long count) {
    char frame[WIRE_FRAME_MAX];
    size_t frame_bytes = wire_encode(wire, NULL, 0, frame);
    for (long i = first + 1; i < first + count; i++) {
        CHECK_EQ(lengths[i], BYTES);
        CHECK_EQ(places[i] - places[i - 1], BYTES + frame_bytes);
    }
}

int main(void) {
    for (int i = 0; i < WIRES; i++) {
        const wire *wire = &wires[i];
        ahoy_framing_options particulars;
        /* One send on a Unix socket is one read on the other side. */
        ahoy_server_options options = OPTIONS(.listen = abstract_url(), .workers = 1, .user = &seen,
                                              .on_open = tally_open, .on_message = on_message);
        wire_options(wire, &options, &particulars);
        seen = (tally)TALLY_INIT;
        ahoy_server server = start(options);
        int fd = dial(server);
        latch_wait(&seen.opened, 1);

        static char bytes[2 * MESSAGES * (BYTES + WIRE_FRAME_MAX)];
        char message[BYTES];
        size_t starts[2 * MESSAGES + 1] = { 0 };
        for (size_t n = 0; n < 2 * MESSAGES; n++) {
            letters_fill(message, BYTES, n);
            starts[n + 1] = starts[n] + wire_encode(wire, message, BYTES, bytes + starts[n]);
        }
        /* All in one read but the half of the last one; then its other half with the rest. */
        size_t half = starts[MESSAGES] - BYTES / 2;
        send_all(fd, bytes, half);
        latch_wait(&seen.messages, MESSAGES - 1);
        check_places(wire, 0, MESSAGES - 1);
        WAIT_UNTIL(stats_of(server).bytes_partial > 0);
        CHECK(stats_of(server).bytes_partial <= starts[MESSAGES] - starts[MESSAGES - 1]);
        send_all(fd, bytes + half, starts[2 * MESSAGES] - half);
        latch_wait(&seen.messages, 2 * MESSAGES);
        CHECK_EQ(lengths[MESSAGES - 1], BYTES);
        check_places(wire, MESSAGES, MESSAGES);
        WAIT_UNTIL(stats_of(server).bytes_partial == 0);
        CHECK_EQ(stats_of(server).messages_in, 2 * MESSAGES);
        close(fd);
        ahoy_server_free(server);
    }
    return 0;
}
