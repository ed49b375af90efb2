/*
 * A delimiter of any bytes, 1 to 64 of them: the first place where it occurs ends the message, wherever the
 * reads split it, also where its beginning occurs within itself.
 */
#include "wire.h"

#include <sys/socket.h>
#include <unistd.h>

static journal heard;

static void check(const void *delimiter, size_t delimiter_bytes, const char *bytes, size_t len,
                  const char *expected) {
    ahoy_framing_options particulars = { .size = sizeof particulars, .delimiter = delimiter,
                                         .delimiter_bytes = delimiter_bytes };
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &heard,
                                       .framing = AHOY_FRAMING_DELIMITER, .framing_options = &particulars,
                                       .on_message = journal_message, .on_close = tally_close));
    for (size_t piece = len; piece > 0; piece = piece > 6 ? 5 : piece - 1) {
        heard = (journal)JOURNAL_INIT;
        int fd = dial(server);
        send_pieces(server, fd, bytes, len, piece);
        CHECK(!shutdown(fd, SHUT_WR));
        latch_wait(&heard.seen.closed, 1);
        CHECK_STATUS(heard.seen.reason, AHOY_ERR_EOF);
        CHECK_TEXT(heard.text, expected);
        close(fd);
    }
    ahoy_server_free(server);
}

#define CHECK_BYTES(delimiter, bytes, expected) \
    check(delimiter, sizeof(delimiter) - 1, bytes, sizeof(bytes) - 1, expected)

int main(void) {
    CHECK_BYTES(";", "a;bc;;d", "a|bc||");
    CHECK_BYTES("\r\n\r\n", "GET\r\nHost:x\r\n\r\nrest\r\n\r", "GET\\x0d\\x0aHost:x|");
    CHECK_BYTES("\r\n\r\n", "\r\n\r\n\r\n\r\n", "||");
    CHECK_BYTES("\r\n\r\n", "a\r\n\r\r\n\r\n", "a\\x0d\\x0a\\x0d|");

    /* Its beginning occurs before it, and in it. */
    CHECK_BYTES("aab", "aaab", "a|");
    CHECK_BYTES("aab", "aaaaabaab", "aaa||");
    CHECK_BYTES("abab", "abaababab", "aba|");
    CHECK_BYTES("abac", "abababac", "abab|");
    CHECK_BYTES("aaa", "aaaaaaab", "||");

    /* Zero bytes are bytes, and a string ends before its zero. */
    CHECK_BYTES("\0", "one\0two\0\0", "one|two||");
    CHECK_BYTES("\0\xff", "a\0b\0\xff", "a\\x00b|");
    check("--", 0, "x--y--", 6, "x|y|");

    /* The longest. */
    static char longest[64 + 1], bytes[2 * 64 + 8];
    memset(longest, '=', 64);
    longest[63] = '!';
    int len = sprintf(bytes, "a%sbc%s==", longest, longest);
    check(longest, 64, bytes, (size_t)len, "a|bc|");
    check(longest, 0, bytes, (size_t)len, "a|bc|");
    return 0;
}
