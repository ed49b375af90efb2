/*
 * What cannot be opened is over within its time, with one on_close and no on_open, and the reason tells what was
 * wrong: the name, nobody there, or no answer.
 */
#include "remote.h"

#include <unistd.h>

static tally seen;

/* The milliseconds it took. */
static long fails(const char *urls, uint32_t connect_ms, ahoy_status reason) {
    holdings before = holdings_now();
    seen = (tally)TALLY_INIT;
    ahoy_server server = start(OPTIONS(.workers = 1, .user = &seen, .on_open = tally_open,
                                       .on_message = tally_message, .on_close = tally_close));
    long begin = now_ms();
    ahoy_conn conn = outgoing(server, urls, CONNECT_OPTIONS(.connect_ms = connect_ms));
    ahoy_status sent = ahoy_send(conn, "lost", 4); /* it may be over already */
    CHECK(sent == AHOY_OK || sent == AHOY_ERR_CLOSED || sent == AHOY_ERR_STALE);
    latch_wait(&seen.closed, 1);
    long spent = now_ms() - begin;
    if (seen.reason != reason) fprintf(stderr, "%s\n", urls);
    CHECK_STATUS(seen.reason, reason);
    CHECK_EQ(latch_count(&seen.opened), 0);

    /* on_close has run; the counts follow, those of a send that came too late as well. */
    ahoy_stats stats;
    WAIT_UNTIL((stats = stats_of(server), stats.closed == 1 && stats.bytes_cut == (sent ? 0 : 4) &&
                                              stats.connections_cut == (sent ? 0 : 1)));
    CHECK_EQ(stats.connections, 0);
    CHECK_EQ(stats.connecting, 0);
    CHECK(stats.connects_failed >= 1);
    CHECK_EQ(stats.bytes_queued, 0);
    CHECK_STATUS(ahoy_send(conn, "x", 1), AHOY_ERR_STALE);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&seen.closed), 1);
    CHECK_HOLDINGS(before);
    return spent;
}

int main(void) {
    enum { CONNECT_MS = 250 };
    remote dead = remote_dead(), hole = remote_black_hole();
    char url[256];

    CHECK(fails("tcp://nobody.invalid:80", 30000, AHOY_ERR_NAME) < 30000);
    CHECK(fails(dead.url, 30000, AHOY_ERR_REFUSED) < 30000);

    long spent = fails(hole.url, CONNECT_MS, AHOY_ERR_TIMEOUT);
    CHECK(spent >= CONNECT_MS - 20); /* the wheel of timers has teeth */
    if (!is_slow()) CHECK(spent < 5 * CONNECT_MS);

    /* A Unix socket that nobody listens on, and none at all. */
    snprintf(url, sizeof url, "unix:%s/socket", make_folder());
    fails(url, 30000, AHOY_ERR_NOT_FOUND);
    ahoy_server server = start(OPTIONS(.listen = url, .workers = 1));
    int fd;
    size_t count;
    CHECK_OK(ahoy_server_listeners(server, &fd, 1, &count)); /* so that the file stays */
    ahoy_server_free(server);
    close(fd);
    fails(url, 30000, AHOY_ERR_REFUSED);
    remove_folder();
    fails(abstract_url(), 30000, AHOY_ERR_REFUSED);

    /* Of several it is the last one's reason, and all of them share the time. */
    snprintf(url, sizeof url, "tcp://nobody.invalid:80,%s", dead.url);
    fails(url, 30000, AHOY_ERR_REFUSED);
    snprintf(url, sizeof url, "%s,tcp://nobody.invalid:80", dead.url);
    fails(url, 30000, AHOY_ERR_NAME);
    snprintf(url, sizeof url, "%s,%s,%s", hole.url, dead.url, hole.url);
    spent = fails(url, CONNECT_MS, AHOY_ERR_TIMEOUT);
    CHECK(spent >= CONNECT_MS - 30);
    if (!is_slow()) CHECK(spent < 5 * CONNECT_MS);

    remote_end(&dead), remote_end(&hole);
    return 0;
}
