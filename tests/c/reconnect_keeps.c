/*
 * What a connection keeps when it is opened again, and what not: its user data, timers, topics and pause are its own;
 * half a message of the peer that died is nobody's; and what is queued while it is down has the usual bounds.
 */
#include "remote.h"
#include "wire.h"

#include <unistd.h>

enum { QUEUE_BYTES = 10000 };

static journal heard;
static latch down, ticks, timers_freed, users_freed;
static remote far;
static const wire *const framing = &wires[4]; /* four bytes of length */

static void on_down(ahoy_conn conn, ahoy_status reason, void *user) {
    (void)conn, (void)reason;
    CHECK(user == &heard);
    latch_add(&down, 1);
}

static void on_timer(ahoy_timer timer, ahoy_conn conn, void *user) {
    (void)timer;
    CHECK(user == &timers_freed);
    CHECK(ahoy_conn_user(conn) == &heard);
    latch_add(&ticks, 1);
}

static void free_user(void *user) {
    CHECK(user == &heard);
    latch_add(&users_freed, 1);
}

static ahoy_server begin(ahoy_message_fn on_message, ahoy_conn *conn) {
    heard = (journal)JOURNAL_INIT;
    down = ticks = timers_freed = users_freed = (latch)LATCH_INIT;
    far = remote_listening();
    ahoy_server server = start(OPTIONS(.workers = 2, .framing = framing->framing, .queue_bytes_max = QUEUE_BYTES,
                                       .on_open = tally_open, .on_message = on_message,
                                       .on_writable = tally_writable, .on_close = tally_close));
    *conn = outgoing(server, far.url, CONNECT_OPTIONS(.user = &heard, .on_free = free_user, .on_down = on_down,
                                                      .reconnect = 1, .reconnect_min_ms = 1,
                                                      .reconnect_max_ms = 10));
    return server;
}

static void end(ahoy_server server) {
    CHECK_EQ(latch_count(&users_freed), 0);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&users_freed), 1);
    CHECK_EQ(latch_count(&heard.seen.closed), 1);
    remote_end(&far);
}

/* Each life ends within a message; the next one begins with a whole one. */
static void half_a_message_is_lost(void) {
    ahoy_conn conn;
    ahoy_server server = begin(journal_message, &conn);
    const char *const halves[] = { "\0", "\0\0\0", "\0\0\0\6", "\0\0\0\6half" };
    const size_t lengths[] = { 1, 3, 4, 8 };
    for (long i = 0; i < 4; i++) {
        uint64_t before = stats_of(server).bytes_in;
        int fd = remote_accept(&far);
        wire_send(framing, fd, "whole", 5);
        latch_wait(&heard.seen.messages, i + 1);
        send_all(fd, halves[i], lengths[i]);
        WAIT_UNTIL(stats_of(server).bytes_in == before + 9 + lengths[i]);
        close(fd);
        latch_wait(&down, i + 1);
    }
    int fd = remote_accept(&far);
    wire_send(framing, fd, "last", 4);
    latch_wait(&heard.seen.messages, 5);
    CHECK_TEXT(heard.text, "whole|whole|whole|whole|last|");
    CHECK_EQ(stats_of(server).bytes_partial, 0);
    close(fd);
    end(server);
}

static void timers_topics_and_pause_stay(void) {
    ahoy_conn conn;
    ahoy_server server = begin(journal_message, &conn);
    ahoy_timer timer;
    CHECK_OK(ahoy_conn_timer_start(conn, 1, 1, on_timer, &timers_freed, count_free, &timer));
    CHECK_OK(ahoy_conn_join(conn, "news"));
    int fd = remote_accept(&far);
    latch_wait(&heard.seen.opened, 1);
    latch_wait(&ticks, 3);
    CHECK_OK(ahoy_publish(server, "news", "one", 3));
    wire_expect(framing, fd, "one", 3);

    /* Nobody listens for a while: the timer goes on. */
    close(fd);
    remote_end(&far);
    latch_wait(&down, 3);
    latch_wait(&ticks, latch_count(&ticks) + 3);
    CHECK_EQ(latch_count(&timers_freed), 0);
    CHECK_OK(ahoy_publish(server, "news", "two", 3));
    CHECK_OK(ahoy_conn_pause(conn));
    remote_start(&far, true); /* an echo server, on the same port */
    latch_wait(&heard.seen.opened, 2);
    CHECK_EQ(latch_count(&heard.seen.messages), 0);
    CHECK_OK(ahoy_conn_resume(conn));
    latch_wait(&heard.seen.messages, 1);
    CHECK_TEXT(heard.text, "two|");
    CHECK_OK(ahoy_timer_cancel(timer));
    latch_wait(&timers_freed, 1);
    end(server);
}

/* Its queue is bounded while it is down, and on_writable tells when it is open and has room again. */
static void the_queue_is_bounded(void) {
    static char block[1000];
    ahoy_conn conn;
    ahoy_server server = begin(tally_message, &conn);
    close(remote_accept(&far));
    latch_wait(&heard.seen.opened, 1);
    remote_end(&far);
    latch_wait(&down, 2);
    ahoy_status status;
    long taken = 0;
    while ((status = ahoy_send(conn, block, sizeof block)) == AHOY_OK) taken++;
    CHECK_STATUS(status, AHOY_ERR_AGAIN);
    /* While the worker takes one in from this thread it counts twice, for a moment. */
    CHECK(taken >= QUEUE_BYTES / 1004 - 1 && taken <= QUEUE_BYTES / 1004 + 1);
    CHECK_EQ(latch_count(&heard.seen.writable), 0);
    remote_start(&far, true);
    latch_wait(&heard.seen.writable, 1);
    latch_wait(&heard.seen.messages, taken);
    CHECK_OK(ahoy_send(conn, block, sizeof block));
    latch_wait(&heard.seen.messages, taken + 1);
    CHECK_EQ(stats_of(server).bytes_cut, 0);
    end(server);
}

int main(void) {
    holdings before = holdings_now();
    half_a_message_is_lost();
    timers_topics_and_pause_stay();
    the_queue_is_bounded();
    CHECK_HOLDINGS(before);
    return 0;
}
