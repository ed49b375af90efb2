/*
 * Lines end with LF or CRLF, which is not part of the message, however they are split over reads. They may be
 * empty and hold any other byte. What a peer leaves without an end is no message.
 */
#include "wire.h"

#include <sys/socket.h>
#include <unistd.h>

static journal heard = JOURNAL_INIT;

static void check(ahoy_server server, const char *bytes, size_t len, const char *expected) {
    for (size_t piece = len; piece > 0; piece = piece > 4 ? 3 : piece - 1) {
        heard = (journal)JOURNAL_INIT;
        int fd = dial(server);
        send_pieces(server, fd, bytes, len, piece);
        CHECK(!shutdown(fd, SHUT_WR));
        latch_wait(&heard.seen.closed, 1);
        CHECK_STATUS(heard.seen.reason, AHOY_ERR_EOF);
        CHECK_TEXT(heard.text, expected);
        close(fd);
    }
}

#define CHECK_LINES(bytes, expected) check(server, bytes, sizeof(bytes) - 1, expected)

int main(void) {
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &heard,
                                       .framing = AHOY_FRAMING_LINES, .on_message = journal_message,
                                       .on_close = tally_close));
    CHECK_LINES("one\n", "one|");
    CHECK_LINES("one\ntwo\r\nthree\n", "one|two|three|");
    CHECK_LINES("\n", "|");
    CHECK_LINES("\r\n", "|");
    CHECK_LINES("\n\n\r\n\n", "||||");
    CHECK_LINES("a\n\nb\n", "a||b|");

    /* Only the last CR before the LF belongs to the end. */
    CHECK_LINES("a\rb\n", "a\\x0db|");
    CHECK_LINES("a\r\r\n", "a\\x0d|");
    CHECK_LINES("\r\r\n\r", "\\x0d|");
    CHECK_LINES("a\r", "");

    CHECK_LINES("zero\0byte\nhigh\xff\n", "zero\\x00byte|high\\xff|");

    /* Without an end. */
    CHECK_LINES("left", "");
    CHECK_LINES("one\nleft", "one|");
    CHECK_LINES("one\r\n\r", "one|");
    CHECK_EQ(stats_of(server).bytes_partial, 0);
    ahoy_server_free(server);
    return 0;
}
