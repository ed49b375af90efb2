/*
 * The peer ends in the middle of a message: what was whole came before, the rest is no message, on_end comes once,
 * and nothing of it is kept. The other direction still works, in frames.
 */
#include "wire.h"

#include <sys/socket.h>
#include <unistd.h>

static journal heard;

static void on_end(ahoy_conn conn, void *user) {
    CHECK_OK(ahoy_send(conn, "answer", 6));
    CHECK_OK(ahoy_conn_close(conn));
    tally_end(conn, user);
}

int main(void) {
    for (int i = 0; i < WIRES; i++) {
        const wire *wire = &wires[i];
        ahoy_framing_options particulars;
        ahoy_server_options options = OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &heard,
                                              .on_message = journal_message, .on_end = on_end,
                                              .on_close = tally_close);
        wire_options(wire, &options, &particulars);
        ahoy_server server = start(options);
        char bytes[256], end;
        size_t whole = wire_encode(wire, "whole", 5, bytes);
        size_t all = whole + wire_encode(wire, "partial", 7, bytes + whole);
        for (size_t len = 0; len < all; len++) {
            heard = (journal)JOURNAL_INIT;
            int fd = dial(server);
            send_all(fd, bytes, len);
            CHECK(!shutdown(fd, SHUT_WR));
            wire_expect(wire, fd, "answer", 6);
            CHECK_EQ(recv_until_eof(fd, &end, 1), 0);
            latch_wait(&heard.seen.closed, 1);
            CHECK_STATUS(heard.seen.reason, AHOY_OK);
            CHECK_EQ(latch_count(&heard.seen.ended), 1);
            CHECK_TEXT(heard.text, len < whole ? "" : "whole|");
            CHECK_EQ(stats_of(server).bytes_partial, 0);
            close(fd);
        }
        ahoy_server_free(server);
    }
    return 0;
}
