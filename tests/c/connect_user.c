/*
 * The user data of ahoy_connect is what the callbacks of the connection get, on_open included. It is freed exactly
 * once, after on_close, however the connection ends; and not at all when ahoy_connect itself fails.
 */
#include "remote.h"

static tally servers;  /* what came with the server's own user: nothing may */
static ahoy_server far, near;
static char far_url[128];

/* One connection's user. */
typedef struct life {
    tally seen; /* first: it is the `user` of the tally_… callbacks */
    latch freed, replaced;
} life;

#define LIFE_INIT { .seen = TALLY_INIT, .freed = LATCH_INIT, .replaced = LATCH_INIT }

static void free_life(void *user) {
    life *life = user;
    CHECK_EQ(latch_count(&life->seen.closed), 1); /* after the last callback */
    latch_add(&life->freed, 1);
}

static void replace(void *user) {
    latch_add(&((life *)user)->replaced, 1);
}

static void ends(life *life, ahoy_status reason, long opened) {
    latch_wait(&life->freed, 1);
    CHECK_STATUS(life->seen.reason, reason);
    CHECK_EQ(latch_count(&life->seen.closed), 1);
    CHECK_EQ(latch_count(&life->seen.opened), opened);
}

static ahoy_server begin(void) {
    return start(OPTIONS(.workers = 1, .user = &servers, .on_open = tally_open, .on_message = tally_message,
                         .on_close = tally_close));
}

static void opened_and_closed(void) {
    life life = LIFE_INIT;
    ahoy_conn conn = outgoing(near, far_url, CONNECT_OPTIONS(.user = &life, .on_free = free_life));
    CHECK(ahoy_conn_user(conn) == &life);
    CHECK_OK(ahoy_send(conn, "echo", 4));
    latch_wait(&life.seen.bytes, 4);
    CHECK_EQ(latch_count(&life.freed), 0);
    CHECK_OK(ahoy_conn_close(conn));
    ends(&life, AHOY_OK, 1);
}

static void not_opened(const char *url, ahoy_status reason) {
    life life = LIFE_INIT;
    outgoing(near, url, CONNECT_OPTIONS(.user = &life, .on_free = free_life));
    ends(&life, reason, 0);
}

static void given_up(const char *url, ahoy_status (*give_up)(ahoy_conn conn)) {
    life life = LIFE_INIT;
    ahoy_conn conn = outgoing(near, url, CONNECT_OPTIONS(.user = &life, .on_free = free_life));
    CHECK_OK(give_up(conn));
    ends(&life, AHOY_OK, 0);
}

static void the_server_ends(const char *url, bool free_only) {
    life life = LIFE_INIT;
    ahoy_server server = begin();
    outgoing(server, url, CONNECT_OPTIONS(.user = &life, .on_free = free_life));
    if (!free_only) {
        CHECK_OK(ahoy_server_stop(server, 0));
        CHECK_OK(ahoy_server_wait(server));
        CHECK_EQ(latch_count(&life.freed), 1);
    }
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&life.freed), 1);
    ends(&life, AHOY_ERR_STOPPED, latch_count(&life.seen.opened));
}

/* Other user data takes its place before the connection is open: freed at once, the new one at the end. */
static void replaced(const char *url) {
    life first = LIFE_INIT, second = LIFE_INIT;
    ahoy_conn conn = outgoing(near, url, CONNECT_OPTIONS(.user = &first, .on_free = replace));
    CHECK_OK(ahoy_conn_set_user(conn, &second, free_life));
    latch_wait(&first.replaced, 1);
    WAIT_UNTIL(ahoy_conn_user(conn) == &second);
    CHECK_OK(ahoy_conn_close(conn));
    ends(&second, AHOY_OK, 0);
    CHECK_EQ(latch_count(&first.replaced), 1);
    CHECK_EQ(latch_count(&first.seen.closed), 0);
}

/* What ahoy_connect refuses stays the program's. */
static void refused(ahoy_server server, const char *urls, ahoy_connect_options options, ahoy_status status) {
    life life = LIFE_INIT;
    ahoy_conn conn = { 77 };
    options.user = &life;
    options.on_free = replace;
    CHECK_STATUS(ahoy_connect(server, urls, &options, &conn), status);
    CHECK_EQ(conn.id, 77);
    CHECK_EQ(latch_count(&life.replaced), 0);
}

static void failures_free_nothing(void) {
    ahoy_framing_options particulars = { .size = sizeof particulars, .length_bytes = 3 };
    ahoy_server stopped = begin();
    CHECK_OK(ahoy_server_stop(stopped, 0));
    refused(stopped, far_url, CONNECT_OPTIONS(0), AHOY_ERR_STOPPED);
    CHECK_OK(ahoy_server_wait(stopped));
    refused(stopped, far_url, CONNECT_OPTIONS(0), AHOY_ERR_STOPPED);
    ahoy_server_free(stopped);
    refused(stopped, far_url, CONNECT_OPTIONS(0), AHOY_ERR_STALE);
    refused(near, NULL, CONNECT_OPTIONS(0), AHOY_ERR_NULL);
    refused(near, "", CONNECT_OPTIONS(0), AHOY_ERR_URL);
    refused(near, "nonsense", CONNECT_OPTIONS(0), AHOY_ERR_URL);
    refused(near, "tcp://127.0.0.1:99999", CONNECT_OPTIONS(0), AHOY_ERR_PORT);
    refused(near, far_url, CONNECT_OPTIONS(.framing = 99), AHOY_ERR_ENUM);
    refused(near, far_url,
            CONNECT_OPTIONS(.framing = AHOY_FRAMING_LENGTH, .framing_options = &particulars), AHOY_ERR_INVALID);
    refused(near, far_url, (ahoy_connect_options){ .size = 3 }, AHOY_ERR_SIZE);
}

int main(void) {
    servers = (tally)TALLY_INIT;
    holdings before = holdings_now();
    remote dead = remote_dead(), hole = remote_black_hole();
    tally served = TALLY_INIT;
    far = start(OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &served, .on_message = tally_echo));
    CHECK_OK(ahoy_server_address(far, 0, far_url, sizeof far_url));
    near = begin();

    opened_and_closed();
    not_opened(dead.url, AHOY_ERR_REFUSED);
    not_opened("tcp://nobody.invalid:80", AHOY_ERR_NAME);
    given_up(hole.url, ahoy_conn_close);
    given_up(hole.url, ahoy_conn_abort);
    for (int i = 0; i < 2; i++) the_server_ends(hole.url, i), the_server_ends(far_url, i);
    replaced(hole.url);
    failures_free_nothing();

    ahoy_server_free(near);
    ahoy_server_free(far);
    CHECK_EQ(latch_count(&servers.opened), 0);
    CHECK_EQ(latch_count(&servers.closed), 0);
    remote_end(&dead), remote_end(&hole);
    CHECK_HOLDINGS(before);
    return 0;
}
