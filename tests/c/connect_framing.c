/*
 * The framing of an outgoing connection: what its URL says, else its options, else the server's. What was sent
 * before it was open has it, too, so that the entries of one list must agree.
 */
#include "remote.h"
#include "wire.h"

#include <unistd.h>

/* A message that no frame can be taken for, and one that is empty. */
static const char word[] = "two words";

static void check_talk(ahoy_conn conn, journal *journal, const remote *remote, const wire *wire) {
    int fd = remote_accept(remote);
    wire_expect(wire, fd, word, strlen(word));
    wire_expect(wire, fd, "", 0);
    wire_send(wire, fd, "answer", 6);
    wire_send(wire, fd, "", 0);
    wire_send(wire, fd, "again", 5);
    latch_wait(&journal->seen.messages, 3);
    CHECK_TEXT(journal->text, "answer||again|");
    CHECK_OK(ahoy_conn_close(conn));
    latch_wait(&journal->seen.closed, 1);
    CHECK_STATUS(journal->seen.reason, AHOY_OK);
    close(fd);
}

static void talks(ahoy_server near, const char *urls, ahoy_connect_options options, const remote *remote,
                  const wire *wire) {
    journal journal = JOURNAL_INIT;
    options.user = &journal;
    ahoy_conn conn = outgoing(near, urls, options);
    CHECK_OK(ahoy_send(conn, word, strlen(word)));
    CHECK_OK(ahoy_send(conn, NULL, 0));
    check_talk(conn, &journal, remote, wire);
}

int main(void) {
    holdings before = holdings_now();
    remote dead = remote_dead(), alive = remote_listening();
    const wire *other = &wires[0];
    for (int i = 0; i < WIRES; i++) {
        const wire *wire = &wires[i];
        ahoy_framing_options particulars, others;
        ahoy_server_options options = OPTIONS(.workers = 1, .on_message = journal_message,
                                              .on_close = tally_close);
        char url[256], list[512];
        snprintf(url, sizeof url, "%s?%s", alive.url, wire->query);
        snprintf(list, sizeof list, "%s?%s,%s", dead.url, wire->query, url);

        ahoy_server raw = start(options);
        wire_options(wire, &options, &particulars);
        ahoy_server framed = start(options);
        wire_options(other, &options, &others);
        ahoy_server framed_otherwise = start(options);

        talks(framed, alive.url, CONNECT_OPTIONS(0), &alive, wire);
        talks(raw, url, CONNECT_OPTIONS(0), &alive, wire);
        talks(raw, list, CONNECT_OPTIONS(0), &alive, wire);
        snprintf(list, sizeof list, "%s?%s,%s", dead.url, other->query, url);
        if (i > 0) CHECK_STATUS(ahoy_connect(raw, list, NULL, NULL), AHOY_ERR_INVALID);
        talks(framed_otherwise, alive.url,
              CONNECT_OPTIONS(.framing = wire->framing, .framing_options = &particulars), &alive, wire);
        talks(framed_otherwise, url,
              CONNECT_OPTIONS(.framing = other->framing, .framing_options = &others), &alive, wire);
        ahoy_server_free(raw);
        ahoy_server_free(framed);
        ahoy_server_free(framed_otherwise);
        other = wire;
    }

    /* None at all, on a server that has one: a message is what a read gives. */
    tally seen = TALLY_INIT;
    char got[sizeof word];
    ahoy_server lines = start(OPTIONS(.workers = 1, .framing = AHOY_FRAMING_LINES, .user = &seen,
                                      .on_message = tally_message, .on_close = tally_close));
    ahoy_conn conn = outgoing(lines, alive.url, CONNECT_OPTIONS(.framing = AHOY_FRAMING_RAW));
    int fd = remote_accept(&alive);
    CHECK_OK(ahoy_send(conn, word, sizeof word));
    recv_exact(fd, got, sizeof got);
    CHECK(memcmp(got, word, sizeof word) == 0);
    send_all(fd, "no end", 6);
    latch_wait(&seen.bytes, 6);
    close(fd);
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, AHOY_ERR_EOF);
    ahoy_server_free(lines);
    remote_end(&dead), remote_end(&alive);
    CHECK_HOLDINGS(before);
    return 0;
}
