/*
 * Ten megabytes for a peer that never reads: what is taken stays within `queue_bytes_max` and what the system holds,
 * the rest is refused, resident memory does not grow with it, and at the end every byte is accounted for.
 */
#include "wire.h"

#include <unistd.h>

enum { TOTAL_BYTES = 10 << 20, PIECE_BYTES = 64 << 10, QUEUE_BYTES = 1 << 20, SLACK_BYTES = 2 << 20 };

static tally seen;

static void try_to_send(bool in_parts) {
    static char piece[PIECE_BYTES], message[TOTAL_BYTES];
    seen = (tally)TALLY_INIT;
    ahoy_server server = start(OPTIONS(.listen = abstract_url(), .workers = 1, .user = &seen,
                                       .framing = AHOY_FRAMING_LENGTH, .queue_bytes_max = QUEUE_BYTES,
                                       .on_open = tally_open, .on_message = tally_message,
                                       .on_writable = tally_writable, .on_close = tally_close));
    int fd = dial(server);
    latch_wait(&seen.opened, 1);
    ahoy_conn conn = tally_conn(&seen);
    CHECK_STATUS(ahoy_send(conn, message, sizeof message), AHOY_ERR_TOO_LONG);

    size_t before = resident_bytes();
    uint64_t taken = 0, refused = 0;
    for (size_t tried = 0; tried < TOTAL_BYTES || stats_of(server).bytes_queued <= QUEUE_BYTES - 2 * PIECE_BYTES;
         tried += PIECE_BYTES) {
        const ahoy_part parts[] = { { piece, 1000 }, { piece + 1000, PIECE_BYTES - 1000 } };
        ahoy_status status = in_parts ? ahoy_send_parts(conn, parts, 2) : ahoy_send(conn, piece, sizeof piece);
        if (status == AHOY_OK) taken += PIECE_BYTES + 4;
        else CHECK_STATUS(status, AHOY_ERR_AGAIN), refused++;
        CHECK(stats_of(server).bytes_queued <= QUEUE_BYTES);
        /* On its way from the mailbox to the queue a message may be seen in both. */
        CHECK(ahoy_conn_queued(conn) <= QUEUE_BYTES + PIECE_BYTES + 4);
    }
    CHECK(refused > 0 && taken < TOTAL_BYTES / 2);
    if (!is_slow()) CHECK(resident_bytes() <= before + QUEUE_BYTES + SLACK_BYTES);
    CHECK_EQ(stats_of(server).messages_refused, refused);
    CHECK_EQ(latch_count(&seen.writable), 0);

    CHECK_OK(ahoy_server_stop(server, 0));
    CHECK_OK(ahoy_server_wait(server));
    ahoy_stats stats = stats_of(server);
    CHECK_EQ(stats.bytes_out + stats.bytes_cut, taken);
    CHECK_EQ(stats.messages_out, taken / (PIECE_BYTES + 4));
    CHECK_EQ(stats.bytes_queued, 0);
    ahoy_server_free(server);
    close(fd);
}

int main(void) {
    try_to_send(false);
    try_to_send(true);
    return 0;
}
