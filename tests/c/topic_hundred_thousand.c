/*
 * One publish to 100,000 connections: each of them gets it, once. While they do not read it, it is in memory once: a
 * member costs a few hundred bytes, however long the message is.
 */
#include "wire.h"

#include <malloc.h>
#include <unistd.h>

enum {
    MEMBERS = 100000,
    SPARE_DESCRIPTORS = 100,
    NOTES = 3,
    NOTE_BYTES = 100,
    LONG_BYTES = 256 << 10,
    READ_BYTES = 1000,
    PER_MEMBER_BYTES = 1024,
    SLACK_BYTES = 4 << 20
};

static tally seen = TALLY_INIT;

static void on_open(ahoy_conn conn, void *user) {
    CHECK_OK(ahoy_conn_join(conn, "all"));
    tally_open(conn, user);
}

/* As many as there may be. The clients are a process of their own. */
static long members_allowed(void) {
    long wanted = rounds(MEMBERS);
    long allowed = (long)descriptors_up_to((unsigned)wanted + SPARE_DESCRIPTORS) - SPARE_DESCRIPTORS;
    if (allowed < wanted) printf("note: %ld members, not %ld: no more descriptors are permitted\n", allowed, wanted);
    return allowed;
}

int main(void) {
    static char message[LONG_BYTES];
    long members = members_allowed();
    crowd crowd = crowd_begin(members);
    ahoy_server server = start(OPTIONS(.workers = 2, .user = &seen, .connections_max = (uint32_t)members,
                                       .on_open = on_open, .on_message = tally_message, .on_close = tally_close));
    crowd_join(&crowd, server);
    latch_wait(&seen.opened, members);

    /* Each goes on where the one before has ended: a second copy would be found in its place. */
    size_t offset = 0;
    long began_ms = now_ms();
    for (int i = 0; i < NOTES; i++, offset += NOTE_BYTES) {
        pattern_fill(message, NOTE_BYTES, offset);
        CHECK_OK(ahoy_publish(server, "all", message, NOTE_BYTES));
        crowd_read(&crowd, NOTE_BYTES, offset);
    }
    long took_ms = now_ms() - began_ms;
    WAIT_UNTIL(stats_of(server).bytes_queued == 0); /* counted when the system says that it has them */

    malloc_trim(0);
    size_t before = resident_bytes();
    pattern_fill(message, sizeof message, offset);
    CHECK_OK(ahoy_publish(server, "all", message, sizeof message));
    crowd_read(&crowd, READ_BYTES, offset); /* it has come to everybody; the rest waits */
    size_t now = resident_bytes(), more = now > before ? now - before : 0;
    uint64_t queued = stats_of(server).bytes_queued;
    printf("%ld members, %d notes read by all in %ld ms; %zu MiB queued, resident %zu KiB more\n", members, NOTES,
           took_ms, (size_t)queued >> 20, more >> 10);
    CHECK(queued > (uint64_t)members * LONG_BYTES / 2);
    if (!is_slow()) CHECK(more <= (size_t)members * PER_MEMBER_BYTES + SLACK_BYTES);

    crowd_end(&crowd);
    latch_wait(&seen.closed, members);
    WAIT_UNTIL(stats_of(server).bytes_queued == 0);
    ahoy_stats stats = stats_of(server);
    CHECK_EQ(stats.published, NOTES + 1);
    CHECK_EQ(stats.published_dropped, 0);
    CHECK_EQ(stats.messages_out, (uint64_t)members * (NOTES + 1));
    CHECK_EQ(stats.bytes_out + stats.bytes_cut, (uint64_t)members * (NOTES * NOTE_BYTES + LONG_BYTES));
    ahoy_server_free(server);
    return 0;
}
