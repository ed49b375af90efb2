/*
 * Memory is refused where a partial message has to be kept: that connection is closed (AHOY_ERR_MEMORY) and nobody
 * else; or, where it is refused to a worker for what others asked of it, nothing is lost in silence.
 */
#include "hooks.h"
#include "wire.h"

#include <errno.h>
#include <unistd.h>

enum { LARGE_BYTES = 100000, PLACES_MAX = 100 };

static tally seen;

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    (void)user;
    CHECK(letters_match(data, len, 0));
    ahoy_status status = ahoy_send(conn, data, len);
    CHECK(status == AHOY_OK || status == AHOY_ERR_MEMORY);
    latch_add(&seen.messages, status == AHOY_OK);
}

int main(void) {
    static char letters[LARGE_BYTES], framed[LARGE_BYTES + WIRE_FRAME_MAX];
    letters_fill(letters, sizeof letters, 0);
    for (int i = 0; i < WIRES; i++) {
        const wire *wire = &wires[i];
        size_t most = wire->message_max < LARGE_BYTES ? wire->message_max : LARGE_BYTES;
        ahoy_framing_options particulars;
        ahoy_server_options options = OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &seen,
                                              .on_open = tally_open, .on_message = on_message,
                                              .on_close = tally_close);
        wire_options(wire, &options, &particulars);
        seen = (tally)TALLY_INIT;
        ahoy_server server = start(options);
        int other = dial(server);
        wire_send(wire, other, letters, most);
        wire_expect(wire, other, letters, most);

        /* At each place in turn where one such message asks for memory. */
        size_t len = wire_encode(wire, letters, most, framed);
        long refused = 0;
        for (int place = 0, asked = PLACES_MAX; asked > place; place++) {
            CHECK(place < PLACES_MAX);
            long opened = latch_count(&seen.opened), closed = latch_count(&seen.closed);
            long messages = latch_count(&seen.messages);
            int fd = dial(server);
            latch_wait(&seen.opened, opened + 1);
            WAIT_UNTIL(stats_of(server).connections == 2);
            ahoy_test_fail("memory", ENOMEM, place, 1);
            send_all(fd, framed, len / 2);
            WAIT_UNTIL(latch_count(&seen.closed) > closed || stats_of(server).bytes_partial > 0);
            if (latch_count(&seen.closed) == closed) {
                ssize_t sent = write(fd, framed + len / 2, len - len / 2);
                (void)sent; /* it may be closed while it is sent */
                WAIT_UNTIL(latch_count(&seen.closed) > closed || latch_count(&seen.messages) > messages ||
                           stats_of(server).bytes_partial == 0);
            }
            asked = ahoy_test_calls("memory");
            ahoy_test_fail("memory", 0, 0, 0);
            if (latch_count(&seen.closed) > closed) {
                CHECK_STATUS(seen.reason, AHOY_ERR_MEMORY);
                refused++;
            }
            close(fd);
            latch_wait(&seen.closed, closed + 1);
            WAIT_UNTIL(stats_of(server).bytes_partial == 0);
            wire_send(wire, other, letters, most);
            wire_expect(wire, other, letters, most);
        }
        printf("%s: %ld connections closed\n", wire->query, refused);
        CHECK(refused > 0);
        close(other);
        ahoy_server_free(server);
    }
    return 0;
}
