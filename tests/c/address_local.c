/* Addresses without a cluster: a server's own connections are reached by them, and nobody else's. */
#include "wire.h"

#include <unistd.h>

static tally seen = TALLY_INIT;
static latch told = LATCH_INIT, in_callback = LATCH_INIT;
static _Atomic long ends[64];
static __thread bool calling;

static void on_sent(ahoy_server server, ahoy_status status, void *user) {
    (void)server;
    CHECK(!calling); /* never inside of the call that has begun it */
    CHECK(user == &told);
    ends[-status]++;
    latch_add(&told, 1);
}

static ahoy_status confirm(ahoy_server server, ahoy_address address, const void *data, size_t len) {
    calling = true;
    ahoy_status status = ahoy_send_to_confirmed(server, address, data, len, on_sent, &told);
    calling = false;
    return status;
}

static void expect(long count, ahoy_status status, long of_it) {
    latch_wait(&told, count);
    CHECK_EQ(ends[-status], of_it);
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    ahoy_address address;
    ahoy_server server = ahoy_conn_server(conn);
    CHECK_OK(ahoy_conn_address(conn, &address));
    CHECK_OK(ahoy_send_to(server, address, data, len));
    CHECK_OK(confirm(server, address, data, len));
    CHECK_STATUS(ahoy_send_to_confirmed_wait(server, address, data, len), AHOY_ERR_DEADLOCK);
    latch_add(&in_callback, 1);
    (void)user;
}

static void text_and_back(ahoy_address address) {
    char text[AHOY_ADDRESS_TEXT_BYTES] = "untouched";
    ahoy_address parsed = { 7, 7 };
    CHECK_STATUS(ahoy_address_text(address, text, sizeof text - 1), AHOY_ERR_TOO_LONG);
    CHECK_TEXT(text, "untouched");
    CHECK_STATUS(ahoy_address_text(address, NULL, 99), AHOY_ERR_NULL);
    CHECK_OK(ahoy_address_text(address, text, sizeof text));
    CHECK_EQ(strlen(text), 32);
    CHECK_STATUS(ahoy_address_parse(NULL, &parsed), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_address_parse(text, NULL), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_address_parse(text + 1, &parsed), AHOY_ERR_INVALID);
    CHECK_STATUS(ahoy_address_parse("", &parsed), AHOY_ERR_INVALID);
    CHECK_STATUS(ahoy_address_parse("\xff", &parsed), AHOY_ERR_INVALID);
    CHECK_EQ(parsed.node, 7);
    CHECK_OK(ahoy_address_parse(text, &parsed));
    CHECK(parsed.node == address.node && parsed.conn == address.conn);
}

static void refused(ahoy_server server, ahoy_address address, ahoy_conn conn) {
    CHECK_STATUS(ahoy_conn_address(conn, NULL), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_conn_address((ahoy_conn){ 0 }, &address), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_send_to(server, address, NULL, 1), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_send_to_confirmed_wait(server, address, NULL, 1), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_send_to_confirmed(server, address, "x", 1, NULL, NULL), AHOY_ERR_NULL);
    CHECK_STATUS(confirm(server, address, NULL, 1), AHOY_ERR_NULL);
    CHECK_STATUS(confirm((ahoy_server){ 0 }, address, "x", 1), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_send_to((ahoy_server){ 0 }, address, "x", 1), AHOY_ERR_STALE);
}

static void own_loop(void) {
    ahoy_server server = start(OPTIONS(.workers = AHOY_WORKERS_NONE));
    ahoy_address nobody = { 1, 1 };
    CHECK_STATUS(ahoy_send_to_confirmed_wait(server, nobody, "x", 1), AHOY_ERR_STALE);
    long before = latch_count(&told);
    CHECK_OK(confirm(server, nobody, "x", 1));
    CHECK_EQ(latch_count(&told), before);
    while (latch_count(&told) == before) CHECK_OK(ahoy_server_turn(server, 100));
    ahoy_server_free(server);
}

int main(void) {
    holdings before = holdings_now();
    ahoy_address address, other;
    own_loop();
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 2, .user = &seen, .on_open = tally_open,
                                       .on_message = on_message, .on_close = tally_close,
                                       .framing = AHOY_FRAMING_LINES, .queue_bytes_max = 1 << 16,
                                       .message_bytes_max = 1 << 15));
    ahoy_server stranger = start(OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &seen));
    int fd = dial(server);
    latch_wait(&seen.opened, 1);
    ahoy_conn conn = tally_conn(&seen);
    CHECK_OK(ahoy_conn_address(conn, &address));
    text_and_back(address);
    refused(server, address, conn);

    CHECK_OK(ahoy_send_to(server, address, "one", 3));
    CHECK_OK(ahoy_send_to_confirmed_wait(server, address, "two", 3));
    CHECK_OK(confirm(server, address, "three", 5));
    wire_expect(&wires[0], fd, "one", 3);
    wire_expect(&wires[0], fd, "two", 3);
    wire_expect(&wires[0], fd, "three", 5);
    latch_wait(&told, 2);
    send_all(fd, "echo\n", 5);
    wire_expect(&wires[0], fd, "echo", 4);
    wire_expect(&wires[0], fd, "echo", 4);
    latch_wait(&in_callback, 1);
    latch_wait(&told, 3);

    /* Another server of the process has other addresses, though the handle is good. */
    other = (ahoy_address){ address.node + 1, address.conn };
    CHECK_STATUS(ahoy_send_to(server, other, "x", 1), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_send_to(stranger, address, "x", 1), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_send_to_confirmed_wait(stranger, address, "x", 1), AHOY_ERR_STALE);
    CHECK_OK(confirm(server, (ahoy_address){ 0, 0 }, "x", 1));
    expect(4, AHOY_ERR_STALE, 2);

    /* What is too long, and what is too much. */
    static char large[1 << 17];
    CHECK_STATUS(ahoy_send_to_confirmed_wait(server, address, large, sizeof large), AHOY_ERR_TOO_LONG);
    ahoy_status status = AHOY_OK;
    while (!status) status = ahoy_send_to(server, address, large, 1 << 15);
    CHECK_STATUS(status, AHOY_ERR_AGAIN);
    close(fd);
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(ahoy_send_to_confirmed_wait(server, address, "x", 1), AHOY_ERR_STALE);

    /* Each that was begun ends, also when the server stops. */
    long begun = latch_count(&told);
    for (int i = 0; i < 1000; i++) {
        if (i == 500) CHECK_OK(ahoy_server_stop(server, 1000));
        status = confirm(server, address, "x", 1);
        CHECK(status == AHOY_OK || status == AHOY_ERR_STOPPED);
        if (status == AHOY_OK) begun++;
    }
    CHECK_OK(ahoy_server_wait(server));
    CHECK_EQ(latch_count(&told), begun);
    CHECK_STATUS(confirm(server, address, "x", 1), AHOY_ERR_STOPPED);
    ahoy_server_free(server);
    ahoy_server_free(stranger);
    CHECK_STATUS(ahoy_send_to(server, address, "x", 1), AHOY_ERR_STALE);
    CHECK_HOLDINGS(before);
    return 0;
}
