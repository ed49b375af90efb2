/*
 * A message longer than `message_bytes_max` closes the connection (AHOY_ERR_TOO_LONG) as soon as it shows, and
 * before memory is spent on it: a length that lies is enough, a line without end is read no further. The
 * longest that is allowed is delivered, and so is what came before.
 */
#include "wire.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LIMIT = 200 };

static tally seen;
static size_t lengths[8];

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    (void)conn, (void)data, (void)user;
    long number = latch_count(&seen.messages);
    CHECK(number < 8 && len <= LIMIT);
    lengths[number] = len;
    latch_add(&seen.messages, 1);
}

static ahoy_server begin(const wire *wire, uint32_t message_bytes_max) {
    ahoy_framing_options particulars;
    ahoy_server_options options = OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &seen,
                                          .message_bytes_max = message_bytes_max, .on_open = tally_open,
                                          .on_message = on_message, .on_close = tally_close);
    wire_options(wire, &options, &particulars);
    seen = (tally)TALLY_INIT;
    return start(options);
}

static void check_closed(ahoy_server server, int fd, ahoy_status reason, long messages) {
    char byte;
    ssize_t end = recv_until_eof(fd, &byte, 1);
    CHECK(end == 0 || end == -ECONNRESET);
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, reason);
    CHECK_EQ(latch_count(&seen.messages), messages);
    CHECK_EQ(stats_of(server).bytes_partial, 0);
    close(fd);
    seen = (tally)TALLY_INIT;
}

/* Messages around the limit, in one read and byte by byte. */
static void at_the_limit(const wire *wire) {
    char text[LIMIT + 1], bytes[3 * LIMIT];
    memset(text, 'x', sizeof text);
    ahoy_server server = begin(wire, LIMIT);
    size_t allowed = wire_encode(wire, text, LIMIT, bytes);
    size_t all = allowed + wire_encode(wire, text, LIMIT + 1, bytes + allowed);
    for (size_t piece = 1; piece <= all; piece += piece == 1 ? 100 : all - 101) {
        int fd = dial(server);
        send_pieces(server, fd, bytes, allowed, piece);
        CHECK(!shutdown(fd, SHUT_WR));
        check_closed(server, fd, AHOY_ERR_EOF, 1);
        CHECK_EQ(lengths[0], LIMIT);
    }
    /* The one before it comes, the one too long does not, nor does what follows. */
    all += wire_encode(wire, "after", 5, bytes + all);
    int fd = dial(server);
    send_all(fd, bytes, all);
    check_closed(server, fd, AHOY_ERR_TOO_LONG, 1);
    CHECK_EQ(lengths[0], LIMIT);
    ahoy_server_free(server);
}

/* A line of the longest allowed whose CR has come and whose LF has not is not too long. */
static void crlf_at_the_limit(void) {
    char line[LIMIT + 2];
    memset(line, 'x', LIMIT);
    memcpy(line + LIMIT, "\r\n", 2);
    ahoy_server server = begin(&wires[0], LIMIT);
    int fd = dial(server);
    send_pieces(server, fd, line, sizeof line, LIMIT + 1);
    latch_wait(&seen.messages, 1);
    CHECK_EQ(lengths[0], LIMIT);
    send_pieces(server, fd, line, LIMIT, LIMIT);
    send_all(fd, "\rx", 2); /* the CR was a byte of a line that is too long, then */
    check_closed(server, fd, AHOY_ERR_TOO_LONG, 1);
    ahoy_server_free(server);
}

/* The length alone is enough; nothing is set aside for it. */
static void lengths_that_lie(void) {
    for (int i = 0; i < WIRES; i++) {
        if (wires[i].framing != AHOY_FRAMING_LENGTH) continue;
        ahoy_server server = begin(&wires[i], LIMIT);
        int fd = dial(server);
        send_all(fd, "\xff\xff\xff\xff", wires[i].length_bytes);
        check_closed(server, fd, AHOY_ERR_TOO_LONG, 0);
        /* Also after one that says the truth. */
        fd = dial(server);
        wire_send(&wires[i], fd, "true", 4);
        send_pieces(server, fd, "\xff\xff\xff\xff", wires[i].length_bytes, 1);
        check_closed(server, fd, AHOY_ERR_TOO_LONG, 1);
        ahoy_server_free(server);
    }
}

/* The server takes no more of it than what one read gives beyond the limit. */
static void without_an_end(const wire *wire) {
    static char bytes[1 << 20];
    enum { READ_BYTES = 128 * 1024 };
    memset(bytes, 'x', sizeof bytes);
    ahoy_server server = begin(wire, LIMIT);
    int fd = dial(server);
    size_t sent = 0;
    while (sent < 64 * sizeof bytes) {
        ssize_t taken = send(fd, bytes, sizeof bytes, MSG_NOSIGNAL);
        if (taken < 0) break;
        sent += (size_t)taken;
    }
    CHECK(errno == EPIPE || errno == ECONNRESET);
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, AHOY_ERR_TOO_LONG);
    CHECK(stats_of(server).bytes_in <= LIMIT + READ_BYTES);
    close(fd);
    ahoy_server_free(server);
}

int main(void) {
    for (int i = 0; i < WIRES; i++) at_the_limit(&wires[i]);
    crlf_at_the_limit();
    lengths_that_lie();
    without_an_end(&wires[0]);
    without_an_end(&wires[6]);
    return 0;
}
