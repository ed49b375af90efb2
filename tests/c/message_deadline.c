/*
 * A message that has begun must be complete within `message_ms`, however busily its bytes trickle in
 * (AHOY_ERR_TIMEOUT); whole messages one after the other may take as long as they like, and so may silence
 * between them. The time in which the program has paused the connection does not count.
 */
#include "wire.h"

#include <sys/socket.h>
#include <unistd.h>

enum { MESSAGE_MS = 60 };

static journal heard;
static const wire *spoken;

static ahoy_server begin(ahoy_message_fn on_message) {
    ahoy_framing_options particulars;
    ahoy_server_options options = OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &heard,
                                          .message_ms = MESSAGE_MS, .on_open = tally_open,
                                          .on_message = on_message, .on_close = tally_close);
    wire_options(spoken, &options, &particulars);
    heard = (journal)JOURNAL_INIT;
    return start(options);
}

static void check_time(long begin_ms, long at_least) {
    long spent = now_ms() - begin_ms;
    CHECK(spent >= at_least);
    if (!is_slow()) CHECK(spent < at_least + 10 * MESSAGE_MS);
}

/* One byte at a time, each sooner than any deadline. */
static void trickle(void) {
    char bytes[255 + WIRE_FRAME_MAX], letters[255];
    letters_fill(letters, sizeof letters, 0);
    wire_encode(spoken, letters, sizeof letters, bytes);
    ahoy_server server = begin(journal_message);
    int fd = dial(server);
    long begin_ms = now_ms();
    for (size_t sent = 0; latch_count(&heard.seen.closed) == 0; wait_moment()) {
        if (sent < 200 && now_ms() - begin_ms >= (long)sent) sent += send(fd, bytes + sent, 1, MSG_NOSIGNAL) == 1;
    }
    check_time(begin_ms, MESSAGE_MS);
    CHECK_STATUS(heard.seen.reason, AHOY_ERR_TIMEOUT);
    CHECK_TEXT(heard.text, "");
    CHECK_EQ(stats_of(server).bytes_partial, 0);
    close(fd);
    ahoy_server_free(server);
}

/* It counts from the message's own beginning, not from the connection's, nor from the last message's. */
static void after_whole_messages(void) {
    char bytes[64];
    ahoy_server server = begin(journal_message);
    int fd = dial(server), silent = dial(server);
    size_t len = wire_encode(spoken, "whole", 5, bytes), part = len - 1;
    long begin_ms = now_ms(), count = 0;
    send_all(fd, bytes, part);
    while (now_ms() - begin_ms < 3 * MESSAGE_MS) {
        /* The end of the one and the beginning of the next, in one read. */
        send_all(fd, bytes + part, len - part);
        send_all(fd, bytes, part);
        latch_wait(&heard.seen.messages, ++count);
        CHECK(heard.used < sizeof heard.text / 2);
        if (heard.used > 1000) heard.used = 0; /* enough of them */
        long next_ms = now_ms() + MESSAGE_MS / 4;
        while (now_ms() < next_ms) wait_moment();
    }
    CHECK_EQ(latch_count(&heard.seen.closed), 0);
    begin_ms = now_ms();
    send_all(fd, bytes + part, len - part);
    latch_wait(&heard.seen.messages, ++count);
    send_all(fd, bytes, part);
    latch_wait(&heard.seen.closed, 1);
    check_time(begin_ms, MESSAGE_MS);
    CHECK_STATUS(heard.seen.reason, AHOY_ERR_TIMEOUT);

    /* Who has begun nothing is late with nothing. */
    wire_send(spoken, silent, "still here", 10);
    latch_wait(&heard.seen.messages, ++count);
    CHECK_EQ(latch_count(&heard.seen.closed), 1);
    close(fd), close(silent);
    ahoy_server_free(server);
}

/* A second connection, not paused, shows that the time has passed. */
static void paused(void) {
    char bytes[64];
    ahoy_server server = begin(journal_message);
    size_t len = wire_encode(spoken, "whole", 5, bytes), part = len - 1;
    int fd = dial(server);
    latch_wait(&heard.seen.opened, 1);
    ahoy_conn conn = tally_conn(&heard.seen);
    long begin_ms = now_ms();
    send_pieces(server, fd, bytes, part, part);
    CHECK_OK(ahoy_conn_pause(conn));
    for (long witness = 1; witness <= 2; witness++) {
        int other = dial(server);
        send_all(other, bytes, part);
        latch_wait(&heard.seen.closed, witness);
        close(other);
    }
    CHECK(now_ms() - begin_ms >= 2 * MESSAGE_MS);
    CHECK(ahoy_conn_server(conn).id == server.id);
    CHECK_OK(ahoy_conn_resume(conn));
    send_all(fd, bytes + part, len - part);
    latch_wait(&heard.seen.messages, 1);
    CHECK_TEXT(heard.text, "whole|");

    /* After a resume the time goes on. */
    send_pieces(server, fd, bytes, part, part);
    CHECK_OK(ahoy_conn_pause(conn));
    CHECK_OK(ahoy_conn_resume(conn));
    latch_wait(&heard.seen.closed, 3);
    CHECK_EQ(heard.seen.reasons[-AHOY_ERR_TIMEOUT], 3);
    close(fd);
    ahoy_server_free(server);
}

int main(void) {
    const int chosen[] = { 0, 4, 6 }; /* lines, length, delimiter */
    for (int i = 0; i < 3; i++) {
        spoken = &wires[chosen[i]];
        trickle();
        after_whole_messages();
        paused();
    }
    return 0;
}
