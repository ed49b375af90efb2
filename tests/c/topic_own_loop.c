/*
 * Topics with the program's own loop: what another thread publishes, joins or subscribes makes ahoy_server_fd readable,
 * and the callbacks run inside the turn; no thread is started.
 */
#include "wire.h"

#include <poll.h>
#include <unistd.h>

static tally seen = TALLY_INIT;
static latch heard = LATCH_INIT, freed = LATCH_INIT;
static pthread_t loop_thread;
static ahoy_server server;

static void on_topic(ahoy_server from, const char *topic, const void *data, size_t len, void *user) {
    (void)topic, (void)user;
    CHECK(pthread_equal(pthread_self(), loop_thread));
    CHECK_EQ(from.id, server.id);
    CHECK(len == 5 && memcmp(data, "hello", 5) == 0);
    latch_add(&heard, 1);
}

static void poll_and_turn(void) {
    struct pollfd entry = { .events = POLLIN };
    CHECK_OK(ahoy_server_fd(server, &entry.fd));
    CHECK(poll(&entry, 1, -1) == 1);
    CHECK_OK(ahoy_server_turn(server, 0));
}

static void *join_and_publish(void *subscription) {
    CHECK_OK(ahoy_conn_join(tally_conn(&seen), "topic"));
    CHECK_OK(ahoy_subscribe(server, "topic", on_topic, &freed, count_free, subscription));
    CHECK_OK(ahoy_publish(server, "topic", "hello", 5));
    return NULL;
}

static void *unsubscribe(void *subscription) {
    CHECK_OK(ahoy_unsubscribe(*(ahoy_subscription *)subscription));
    return NULL;
}

int main(void) {
    holdings before = holdings_now();
    pthread_t thread;
    ahoy_subscription subscription;
    loop_thread = pthread_self();
    server = start(OPTIONS(.listen = LOOPBACK, .workers = AHOY_WORKERS_NONE, .user = &seen,
                           .framing = AHOY_FRAMING_LINES, .on_open = tally_open,
                           .on_message = tally_message));
    int fd = dial(server);
    while (latch_count(&seen.opened) < 1) poll_and_turn();
    CHECK(!pthread_create(&thread, NULL, join_and_publish, &subscription));
    while (latch_count(&heard) < 1 || stats_of(server).bytes_out < 6) poll_and_turn();
    wire_expect(&wires[0], fd, "hello", 5);
    CHECK(!pthread_join(thread, NULL));

    /* From the loop's own thread, outside of a turn. */
    CHECK_OK(ahoy_publish(server, "topic", "hello", 5));
    while (latch_count(&heard) < 2 || stats_of(server).bytes_out < 12) poll_and_turn();
    wire_expect(&wires[0], fd, "hello", 5);

    CHECK(!pthread_create(&thread, NULL, unsubscribe, &subscription));
    while (latch_count(&freed) < 1) poll_and_turn();
    CHECK(!pthread_join(thread, NULL));
    CHECK_OK(ahoy_publish(server, "topic", "hello", 5));
    while (stats_of(server).bytes_out < 18) poll_and_turn();
    wire_expect(&wires[0], fd, "hello", 5);
    CHECK_EQ(latch_count(&heard), 2);
    close(fd);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&freed), 1);
    CHECK_HOLDINGS(before);
    return 0;
}
