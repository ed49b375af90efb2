/*
 * A message that its frame, the limits or the queue can never hold is refused with AHOY_ERR_TOO_LONG, by every kind
 * of send: nothing is queued, owned memory stays the program's, and the connection is as good as before.
 */
#include "wire.h"

#include <unistd.h>

static tally seen;
static latch freed;
static char bytes[100000];

static ahoy_server begin(const wire *wire, uint32_t message_bytes_max, uint32_t queue_bytes_max,
                         size_t greeting_bytes, int *fd) {
    ahoy_framing_options particulars;
    ahoy_server_options options = OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &seen,
                                          .greeting = bytes, .greeting_bytes = greeting_bytes,
                                          .message_bytes_max = message_bytes_max,
                                          .queue_bytes_max = queue_bytes_max, .on_open = tally_open,
                                          .on_message = tally_message, .on_close = tally_close);
    wire_options(wire, &options, &particulars);
    seen = (tally)TALLY_INIT;
    freed = (latch)LATCH_INIT;
    ahoy_server server = start(options);
    *fd = dial(server);
    latch_wait(&seen.opened, 1);
    return server;
}

/* A copied, a gathered and an owned message of `len` bytes. `owned_len`: 64 bytes more count for that one. */
static void check_refused(ahoy_server server, size_t len, size_t owned_len) {
    ahoy_conn conn = tally_conn(&seen);
    uint64_t messages_out = stats_of(server).messages_out;
    const ahoy_part parts[] = { { bytes, len / 2 }, { bytes, len - len / 2 } };
    CHECK_STATUS(ahoy_send(conn, bytes, len), AHOY_ERR_TOO_LONG);
    CHECK_STATUS(ahoy_send_parts(conn, parts, 2), AHOY_ERR_TOO_LONG);
    CHECK_STATUS(ahoy_send_owned(conn, bytes, owned_len, count_free, &freed), AHOY_ERR_TOO_LONG);
    CHECK_EQ(latch_count(&freed), 0);
    CHECK_EQ(ahoy_conn_queued(conn), 0);
    CHECK_EQ(stats_of(server).bytes_queued, 0);
    CHECK_EQ(stats_of(server).messages_out, messages_out);
}

static void check_taken(const wire *wire, ahoy_server server, int fd, size_t len, size_t owned_len) {
    ahoy_conn conn = tally_conn(&seen);
    const ahoy_part parts[] = { { bytes, len / 2 }, { bytes + len / 2, len - len / 2 } };
    CHECK_OK(ahoy_send(conn, bytes, len));
    wire_expect(wire, fd, bytes, len);
    WAIT_UNTIL(stats_of(server).bytes_queued == 0);
    CHECK_OK(ahoy_send_parts(conn, parts, 2));
    wire_expect(wire, fd, bytes, len);
    WAIT_UNTIL(stats_of(server).bytes_queued == 0);
    CHECK_OK(ahoy_send_owned(conn, bytes, owned_len, count_free, &freed));
    wire_expect(wire, fd, bytes, owned_len);
    latch_wait(&freed, 1);
}

int main(void) {
    letters_fill(bytes, sizeof bytes, 0);
    int fd;
    for (int i = 0; i < WIRES; i++) {
        const wire *wire = &wires[i];
        if (wire->framing == AHOY_FRAMING_LENGTH && wire->length_bytes < 4) {
            size_t most = wire->message_max;
            ahoy_server server = begin(wire, 0, 0, most + 1, &fd);
            check_refused(server, most + 1, most + 1);
            check_refused(server, most + 2, most + 2);
            CHECK_STATUS(ahoy_conn_greet(tally_conn(&seen)), AHOY_ERR_TOO_LONG);
            check_taken(wire, server, fd, most, most);
            close(fd);
            ahoy_server_free(server);
        }

        /* The limit is for the message alone … */
        ahoy_server server = begin(wire, 200, 0, 5, &fd);
        check_refused(server, 201, 201);
        const ahoy_part endless[] = { { bytes, 2 }, { bytes, SIZE_MAX / 2 }, { bytes, SIZE_MAX / 2 } };
        CHECK_STATUS(ahoy_send_parts(tally_conn(&seen), endless, 3), AHOY_ERR_TOO_LONG);
        const ahoy_part torn[] = { { bytes, 2 }, { NULL, 1 } };
        CHECK_STATUS(ahoy_send_parts(tally_conn(&seen), torn, 2), AHOY_ERR_NULL);
        CHECK_STATUS(ahoy_send_parts(tally_conn(&seen), NULL, 1), AHOY_ERR_NULL);
        CHECK_STATUS(ahoy_send_parts(tally_conn(&seen), NULL, SIZE_MAX), AHOY_ERR_NULL);
        check_taken(wire, server, fd, 200, 200);
        close(fd);
        ahoy_server_free(server);

        /* … and the queue has to hold the frame, too. */
        size_t frame = wire_encode(wire, NULL, 0, (char[WIRE_FRAME_MAX]){ 0 });
        server = begin(wire, 0, 200, 5, &fd);
        check_refused(server, 200 - frame + 1, 200 - 64 - frame + 1);
        check_taken(wire, server, fd, 200 - frame, 200 - 64 - frame);
        close(fd);
        ahoy_server_free(server);
    }
    return 0;
}
