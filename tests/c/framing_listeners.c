/*
 * Listeners of one server have each their own framing, in the query of the URL; one that says nothing has the
 * server's, and so does an adopted socket. Messages come out of the one and go back into the same.
 */
#include "wire.h"

#include <unistd.h>

static tally seen = TALLY_INIT;

static void echo(ahoy_conn conn, const void *data, size_t len, void *user) {
    (void)user;
    CHECK_OK(ahoy_send(conn, data, len));
    latch_add(&seen.messages, 1);
}

static void converse(const wire *wire, int fd) {
    static const char *const messages[] = { "hello", "x", "a longer message, all the same" };
    for (int i = 0; i < 3; i++) {
        wire_send(wire, fd, messages[i], strlen(messages[i]));
        wire_expect(wire, fd, messages[i], strlen(messages[i]));
    }
    if (wire->framing != AHOY_FRAMING_RAW) {
        wire_send(wire, fd, NULL, 0);
        wire_expect(wire, fd, NULL, 0);
    }
    close(fd);
}

int main(void) {
    char listen[1024] = "", unix_url[128];
    size_t used = 0;
    snprintf(unix_url, sizeof unix_url, "%s", abstract_url());
    for (int i = 0; i < WIRES; i++) used += (size_t)sprintf(listen + used, LOOPBACK "?%s,", wires[i].query);
    used += (size_t)sprintf(listen + used, LOOPBACK "?framing=raw," LOOPBACK ",");
    /* The order of the query's parts is free. */
    sprintf(listen + used, "%s?delimiter=%%3b&framing=delimiter," LOOPBACK "?length_bytes=1&framing=length",
            unix_url);

    const wire *of_server = &wires[3];
    ahoy_framing_options particulars;
    ahoy_server_options options = OPTIONS(.listen = listen, .workers = 2, .user = &seen, .on_message = echo);
    wire_options(of_server, &options, &particulars);
    ahoy_server server = start(options);
    memset(&particulars, 0xff, sizeof particulars); /* they were copied */
    memset(listen, 0, sizeof listen);

    for (size_t i = 0; i < WIRES; i++) converse(&wires[i], dial_listener(server, i));
    converse(&wire_raw, dial_listener(server, WIRES));
    converse(of_server, dial_listener(server, WIRES + 1));
    converse(&wires[7], dial_url(unix_url));
    converse(&wires[1], dial_listener(server, WIRES + 3));

    int pair[2];
    stream_pair(pair);
    CHECK_OK(ahoy_server_adopt(server, pair[0], NULL));
    converse(of_server, pair[1]);

    /* An address is where one can connect: its text is a URL that a start would take, too. */
    char url[160];
    CHECK_OK(ahoy_server_address(server, 0, url, sizeof url));
    CHECK(strncmp(url, "tcp://127.0.0.1:", 16) == 0);
    CHECK_STATUS(ahoy_server_address(server, WIRES + 4, url, sizeof url), AHOY_ERR_INVALID);
    ahoy_server_free(server);
    return 0;
}
