/*
 * Memory is refused once, at each place in turn where a publish asks for it: it answers AHOY_ERR_MEMORY, is not
 * counted, and nobody gets it, on no worker; or it is counted, and whoever misses it is counted, too.
 */
#include "hooks.h"
#include "wire.h"

#include <errno.h>
#include <unistd.h>

enum { WORKERS = 3, MEMBERS = 2 * WORKERS, PLACES_MAX = 100 };

static tally seen = TALLY_INIT;
static latch heard = LATCH_INIT;
static ahoy_server server;
static int fds[MEMBERS];

static void on_topic(ahoy_server server, const char *topic, const void *data, size_t len, void *user) {
    (void)server, (void)topic, (void)data, (void)user;
    CHECK_EQ(len, 4);
    latch_add(&heard, 1);
}

static void on_open(ahoy_conn conn, void *user) {
    CHECK_OK(ahoy_conn_join(conn, "all"));
    tally_open(conn, user);
}

static ahoy_status publish(void) {
    return ahoy_publish(server, "all", "news", 4);
}

static _Atomic ahoy_status answer;

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    answer = publish();
    tally_message(conn, data, len, user);
}

/* The same from a callback, whose own worker has members and may have the subscription. */
static ahoy_status publish_there(void) {
    long before = latch_count(&seen.messages);
    send_all(fds[0], "!\n", 2);
    latch_wait(&seen.messages, before + 1);
    return answer;
}

static long news_before_the_last(int fd) {
    char got[5];
    for (long news = 0;; news++) {
        recv_exact(fd, got, sizeof got);
        if (memcmp(got, "last\n", sizeof got) == 0) return news;
        CHECK(memcmp(got, "news\n", sizeof got) == 0);
    }
}

static void try_each_place(ahoy_status (*publish)(void)) {
    int refused = 0;
    for (int place = 0, asked = 1; asked >= place; place++) {
        CHECK(place < PLACES_MAX);
        long heard_before = latch_count(&heard), got = 0;
        ahoy_stats before = stats_of(server), after;
        ahoy_test_fail("memory", ENOMEM, place, 1);
        ahoy_status status = publish();
        long published = status == AHOY_OK;
        if (!published) CHECK_STATUS(status, AHOY_ERR_MEMORY);
        uint64_t outcomes = before.messages_out + before.published_dropped + (published ? MEMBERS : 0);
        WAIT_UNTIL((after = stats_of(server), after.messages_out + after.published_dropped >= outcomes));
        asked = ahoy_test_calls("memory");
        ahoy_test_fail("memory", 0, 0, 0);
        CHECK_EQ(after.published - before.published, published);

        CHECK_OK(ahoy_publish(server, "all", "last", 4));
        for (int i = 0; i < MEMBERS; i++) got += news_before_the_last(fds[i]);
        CHECK_EQ(got + (long)(after.published_dropped - before.published_dropped), published * MEMBERS);
        latch_wait(&heard, heard_before + published + 1);
        CHECK_EQ(latch_count(&heard), heard_before + published + 1);
        refused += !published;
    }
    printf("refused at %d places\n", refused);
    CHECK(refused >= WORKERS);
}

int main(void) {
    server = start(OPTIONS(.workers = WORKERS, .user = &seen, .framing = AHOY_FRAMING_LINES,
                           .on_open = on_open, .on_message = on_message, .on_close = tally_close));
    for (int i = 0; i < MEMBERS; i++) {
        int pair[2];
        stream_pair(pair);
        CHECK_OK(ahoy_server_adopt(server, pair[0], NULL));
        fds[i] = pair[1];
    }
    latch_wait(&seen.opened, MEMBERS);
    CHECK_EQ(stats_of(server).connections_worker_max, MEMBERS / WORKERS);
    CHECK_OK(ahoy_subscribe(server, "all", on_topic, NULL, NULL, NULL));
    try_each_place(publish);
    try_each_place(publish_there);
    CHECK_EQ(latch_count(&seen.closed), 0);
    for (int i = 0; i < MEMBERS; i++) close(fds[i]);
    ahoy_server_free(server);
    return 0;
}
