/*
 * A producer with 10,000 readers that are slow: what waits for all of them together stays within
 * `queue_total_bytes_max`, and resident memory within a quarter more: buffers have room to spare. Once they read,
 * what was taken arrives, in order, and the producer can go on.
 */
#include "wire.h"

#include <malloc.h>
#include <unistd.h>

enum { READERS = 10000, PIECE_BYTES = 2000, TOTAL_BYTES = 64 << 20, RESIDENT_BYTES = TOTAL_BYTES / 4 * 5 };

static tally seen = TALLY_INIT;
static uint64_t conns[READERS];
static atomic_long open_count;
static long sent[READERS], taken, refused;

static void on_open(ahoy_conn conn, void *user) {
    long place = open_count++;
    conns[place] = conn.id;
    tally_open(conn, user);
}

/* As much as they take, to each in turn. */
static void produce(ahoy_server server, long readers) {
    for (long more = readers; more > 0;) {
        more = 0;
        for (long i = 0; i < readers; i++) {
            char piece[PIECE_BYTES];
            pattern_fill(piece, sizeof piece, (size_t)sent[i]);
            ahoy_status status = ahoy_send((ahoy_conn){ conns[i] }, piece, sizeof piece);
            if (status == AHOY_OK) {
                sent[i] += PIECE_BYTES;
                taken += PIECE_BYTES;
                more++;
            } else {
                CHECK_STATUS(status, AHOY_ERR_AGAIN);
                refused++;
            }
        }
        CHECK(stats_of(server).bytes_queued <= TOTAL_BYTES);
    }
}

int main(void) {
    long readers = rounds(READERS);
    crowd crowd = crowd_begin(readers);
    ahoy_server server = start(OPTIONS(.workers = 2, .user = &seen,
                                       .queue_total_bytes_max = TOTAL_BYTES, .on_open = on_open,
                                       .on_message = tally_message, .on_writable = tally_writable,
                                       .on_close = tally_close));
    crowd_join(&crowd, server);
    latch_wait(&seen.opened, readers);

    malloc_trim(0);
    size_t before = resident_bytes();
    /* What leaves the mailbox for the system makes room again, until the system has taken all it can. */
    do {
        produce(server, readers);
    } while (stats_of(server).bytes_queued <= TOTAL_BYTES / 10 * 9 && !is_slow());
    size_t after = resident_bytes();
    printf("%ld readers, %ld KiB taken, %ld refused, %zu KiB queued, resident %zu KiB more\n", readers,
           taken >> 10, refused, (size_t)stats_of(server).bytes_queued >> 10,
           after > before ? (after - before) >> 10 : 0);
    if (!is_slow()) CHECK(after <= before + RESIDENT_BYTES);

    /* They read a little, at different times: it stays so. */
    long least = sent[0];
    for (long i = 1; i < readers; i++) least = sent[i] < least ? sent[i] : least;
    CHECK(least > 0);
    size_t offset = 0;
    for (int round = 0; round < 2; round++) {
        size_t some = (size_t)least / 4;
        crowd_read(&crowd, some, offset);
        offset += some;
        produce(server, readers);
        CHECK(stats_of(server).bytes_queued <= TOTAL_BYTES);
        if (!is_slow()) CHECK(resident_bytes() <= before + RESIDENT_BYTES);
    }
    crowd_end(&crowd);
    latch_wait(&seen.closed, readers);
    WAIT_UNTIL(stats_of(server).bytes_queued == 0);
    ahoy_stats stats = stats_of(server);
    CHECK_EQ(stats.bytes_out + stats.bytes_cut, taken);
    CHECK_EQ(stats.messages_out, taken / PIECE_BYTES);
    CHECK_EQ(stats.messages_refused, refused);
    ahoy_server_free(server);
    return 0;
}
