/*
 * Memory is refused at every place where an outgoing connection needs some: ahoy_connect says so and keeps nothing, or
 * the connection is over with that reason, or it is opened all the same. Its user data is freed once or not at all.
 */
#include "hooks.h"
#include "remote.h"

#include <errno.h>

static remote far;

typedef struct life {
    tally seen; /* first: the `user` of the tally_… callbacks */
    latch freed;
} life;

static void free_life(void *user) {
    CHECK_EQ(latch_count(&((life *)user)->seen.closed), 1);
    latch_add(&((life *)user)->freed, 1);
}

/* Whether a call was made to fail, with the one at `skip`. */
static bool refused_at(ahoy_server server, const char *url, int skip) {
    life life = { .seen = TALLY_INIT, .freed = LATCH_INIT };
    ahoy_connect_options options = CONNECT_OPTIONS(.user = &life, .on_free = free_life,
                                                   .connect_ms = is_slow() ? 4000 : 1000);
    ahoy_conn conn = { 77 };
    ahoy_test_fail("memory", ENOMEM, skip, 1);
    ahoy_status status = ahoy_connect(server, url, &options, &conn);
    if (status) {
        CHECK_STATUS(status, AHOY_ERR_MEMORY);
        CHECK_EQ(conn.id, 77);
    } else {
        ahoy_status sent = ahoy_send(conn, "echo", 4);
        CHECK(sent == AHOY_OK || sent == AHOY_ERR_MEMORY || sent == AHOY_ERR_CLOSED || sent == AHOY_ERR_STALE);
        WAIT_UNTIL(latch_count(&life.seen.bytes) == 4 || latch_count(&life.seen.closed) == 1 ||
                   (sent && latch_count(&life.seen.opened) == 1));
        ahoy_status aborted = ahoy_conn_abort(conn);
        if (aborted == AHOY_ERR_MEMORY) {
            CHECK_OK(ahoy_send(conn, "x", 1)); /* nothing was done by half */
            aborted = ahoy_conn_abort(conn);
        }
        CHECK(aborted == AHOY_OK || aborted == AHOY_ERR_STALE);
        latch_wait(&life.freed, 1);
        CHECK(life.seen.reason == AHOY_OK || life.seen.reason == AHOY_ERR_MEMORY);
    }
    bool is_hit = ahoy_test_calls("memory") > skip;
    ahoy_test_fail("memory", 0, 0, 0);
    CHECK_EQ(latch_count(&life.freed), status ? 0 : 1);
    CHECK_EQ(latch_count(&life.seen.closed), status ? 0 : 1);
    return is_hit;
}

static void refused_everywhere(const char *url) {
    holdings before = holdings_now();
    tally unused = TALLY_INIT;
    ahoy_server server = start(OPTIONS(.workers = 1, .user = &unused, .on_open = tally_open,
                                       .on_message = tally_message, .on_close = tally_close));
    int skip = 0;
    for (int unhit = 0; unhit < 3; skip++) {
        CHECK(skip < 1000);
        if (!refused_at(server, url, skip)) unhit++;
    }
    CHECK(skip > 5); /* some places there are */
    CHECK_EQ(latch_count(&unused.closed), 0);
    WAIT_UNTIL(stats_of(server).connections == 0);
    CHECK_EQ(stats_of(server).connecting, 0);
    CHECK_EQ(stats_of(server).bytes_queued, 0);
    ahoy_server_free(server);
    CHECK_HOLDINGS(before);
}

int main(void) {
    char url[96];
    far = remote_process(true);
    refused_everywhere(far.url);
    snprintf(url, sizeof url, "tcp://nobody.invalid:1,%s", far.url); /* by way of the resolver */
    refused_everywhere(url);

    /* ahoy_request as well: an answer, or the right status, and nothing left. */
    holdings before = holdings_now();
    for (int skip = 0, unhit = 0; unhit < 3; skip++) {
        char answer[8] = "";
        CHECK(skip < 1000);
        ahoy_test_fail("memory", ENOMEM, skip, 1);
        ahoy_status status = ahoy_request(url, NULL, "ahoy", 4, answer, sizeof answer, NULL);
        CHECK(status == AHOY_OK || status == AHOY_ERR_MEMORY);
        if (status == AHOY_OK) CHECK_TEXT(answer, "ahoy");
        if (ahoy_test_calls("memory") <= skip) unhit++;
    }
    ahoy_test_fail("memory", 0, 0, 0);
    CHECK_HOLDINGS(before);
    remote_end(&far);
    return 0;
}
