/*
 * One publish to 10,000 members that do not read: the payload is in memory once. Resident memory grows by much less
 * than a copy for each would take; and each of them gets all of it in the end.
 */
#include "wire.h"

#include <malloc.h>
#include <unistd.h>

enum { MEMBERS = 10000, PAYLOAD_BYTES = 8 << 10, TIMES = 2, PER_MEMBER_BYTES = 1024, SLACK_BYTES = 4 << 20 };

static tally seen = TALLY_INIT;

static void on_open(ahoy_conn conn, void *user) {
    CHECK_OK(ahoy_conn_join(conn, "all"));
    tally_open(conn, user);
}

int main(void) {
    static char payload[TIMES][PAYLOAD_BYTES];
    long members = rounds(MEMBERS);
    crowd crowd = crowd_begin(members);
    ahoy_server server = start(OPTIONS(.workers = 2, .user = &seen,
                                       .queue_total_bytes_max = 1ull << 30, .on_open = on_open,
                                       .on_message = tally_message, .on_close = tally_close));
    crowd_join(&crowd, server);
    latch_wait(&seen.opened, members);
    malloc_trim(0);
    size_t before = resident_bytes();

    pattern_fill(payload, sizeof payload, 0);
    for (uint64_t i = 0; i < TIMES; i++) {
        CHECK_OK(ahoy_publish(server, "all", payload[i], PAYLOAD_BYTES));
        memset(payload[i], 0, PAYLOAD_BYTES); /* it is the library's own copy that is shared */
        WAIT_UNTIL(stats_of(server).messages_out == (i + 1) * (uint64_t)members);
    }
    size_t now = resident_bytes(), more = now > before ? now - before : 0;
    uint64_t queued = stats_of(server).bytes_queued;
    printf("%ld members, %d KiB published, %zu KiB queued, resident %zu KiB more\n", members,
           TIMES * PAYLOAD_BYTES >> 10, (size_t)queued >> 10, more >> 10);
    if (!is_slow()) {
        CHECK(queued > (uint64_t)members * PAYLOAD_BYTES); /* most of it still waits */
        CHECK(more <= (size_t)members * PER_MEMBER_BYTES + SLACK_BYTES);
    }
    crowd_read(&crowd, TIMES * PAYLOAD_BYTES, 0);
    WAIT_UNTIL(stats_of(server).bytes_queued == 0);
    CHECK_EQ(stats_of(server).published_dropped, 0);
    CHECK_EQ(stats_of(server).bytes_out, (uint64_t)members * TIMES * PAYLOAD_BYTES);
    crowd_end(&crowd);
    latch_wait(&seen.closed, members);
    ahoy_server_free(server);
    return 0;
}
