/*
 * Messages behind their length: in 1, 2 or 4 bytes, most or least significant first, of every length from 0 to
 * the longest that the width can say, whole in one read or byte by byte.
 */
#include "wire.h"

#include <sys/socket.h>
#include <unistd.h>

enum { MESSAGES_MAX = 16, BYTES_MAX = 200000 };

static tally seen;
static size_t lengths[MESSAGES_MAX];

/* The n-th message is a pattern that starts at n. */
static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    (void)conn, (void)user;
    long number = latch_count(&seen.messages);
    CHECK(number < MESSAGES_MAX);
    CHECK(pattern_matches(data, len, (size_t)number));
    lengths[number] = len;
    latch_add(&seen.messages, 1);
}

static void check(ahoy_server server, const wire *wire, const size_t *expected, size_t count, size_t piece) {
    static char bytes[BYTES_MAX], message[BYTES_MAX];
    size_t len = 0;
    for (size_t i = 0; i < count; i++) {
        pattern_fill(message, expected[i], i);
        len += wire_encode(wire, message, expected[i], bytes + len);
    }
    seen = (tally)TALLY_INIT;
    int fd = dial(server);
    send_pieces(server, fd, bytes, len, piece ? piece : len);
    CHECK(!shutdown(fd, SHUT_WR));
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, AHOY_ERR_EOF);
    CHECK_EQ(latch_count(&seen.messages), count);
    for (size_t i = 0; i < count; i++) CHECK_EQ(lengths[i], expected[i]);
    close(fd);
}

int main(void) {
    static const size_t none[] = { 0, 0, 0 }, few[] = { 3, 0, 1, 0, 0, 10 }, byte[] = { 255, 254, 0, 128, 127 },
                        two[] = { 256, 65535, 0, 32768, 257 }, four[] = { 65536, 0, 100000 };
    for (int i = 0; i < WIRES; i++) {
        const wire *wire = &wires[i];
        if (wire->framing != AHOY_FRAMING_LENGTH) continue;
        ahoy_framing_options particulars;
        ahoy_server_options options = OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &seen,
                                              .on_message = on_message, .on_close = tally_close);
        wire_options(wire, &options, &particulars);
        if (wire->length_bytes == 4) particulars.length_bytes = 0; /* the default */
        ahoy_server server = start(options);
        for (size_t piece = 0; piece <= 5; piece++) {
            check(server, wire, none, 3, piece);
            check(server, wire, few, 6, piece);
        }
        check(server, wire, byte, 5, 0);
        check(server, wire, byte, 5, 100);
        if (wire->length_bytes > 1) check(server, wire, two, 5, 0), check(server, wire, two, 5, 9999);
        if (wire->length_bytes > 2) check(server, wire, four, 3, 0), check(server, wire, four, 3, 65537);
        ahoy_server_free(server);
    }
    return 0;
}
