/* NULL for every pointer parameter of the functions of conversations: an error where it must not be, never a crash. */
#include "remote.h"

#include <unistd.h>

static tally seen = TALLY_INIT;
static latch freed = LATCH_INIT, fired = LATCH_INIT;

static void on_timer(ahoy_timer timer, ahoy_conn conn, void *user) {
    (void)timer, (void)conn;
    CHECK(user == NULL);
    latch_add(&fired, 1);
}

static void on_topic(ahoy_server server, const char *topic, const void *data, size_t len, void *user) {
    (void)server, (void)data, (void)len;
    CHECK_TEXT(topic, "news");
    CHECK(user == NULL);
    latch_add(&fired, 1);
}

static void where_a_pointer_is_needed(ahoy_server server, ahoy_conn conn) {
    char text[64];
    size_t count = 77;
    int fds[1] = { 77 }, pair[2];
    ahoy_timer timer = { 77 };
    ahoy_subscription subscription = { 77 };
    const ahoy_part part = { NULL, 1 };
    stream_pair(pair);

    CHECK_STATUS(ahoy_send_parts(conn, NULL, 1), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_send_parts(conn, &part, 1), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_timer_start(server, 0, 0, NULL, &freed, count_free, &timer), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_conn_timer_start(conn, 0, 0, NULL, &freed, count_free, &timer), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_conn_join(conn, NULL), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_conn_leave(conn, NULL), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_publish(server, NULL, "x", 1), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_publish(server, "news", NULL, 1), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_subscribe(server, NULL, on_topic, &freed, count_free, &subscription), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_subscribe(server, "news", NULL, &freed, count_free, &subscription), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_connect(server, NULL, NULL, NULL), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_request(NULL, NULL, "x", 1, text, sizeof text, &count), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_request("tcp://127.0.0.1:1", NULL, NULL, 1, text, sizeof text, &count), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_request("tcp://127.0.0.1:1", NULL, "x", 1, NULL, 1, &count), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_server_listeners(server, NULL, 1, &count), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_server_listeners(server, fds, 1, NULL), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_descriptors_send(pair[0], NULL, 1), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_descriptors_receive(pair[0], fds, 1, NULL), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_metrics_text(server, NULL, 1, NULL), AHOY_ERR_NULL);

    CHECK_EQ(latch_count(&freed), 0); /* what was refused stayed the program's */
    CHECK_EQ(timer.id, 77);
    CHECK_EQ(subscription.id, 77);
    CHECK_EQ(fds[0], 77);
    close(pair[0]), close(pair[1]);
}

/* In the structs as well. */
static void in_options(ahoy_server server) {
    ahoy_server none = { 77 };
    ahoy_framing_options nothing = { .size = sizeof nothing, .delimiter_bytes = 3 };
    ahoy_server_options options = OPTIONS(.framing = AHOY_FRAMING_DELIMITER);
    CHECK_STATUS(ahoy_server_start(&options, &none), AHOY_ERR_NULL);
    options.framing_options = &nothing;
    CHECK_STATUS(ahoy_server_start(&options, &none), AHOY_ERR_NULL);
    CHECK_EQ(none.id, 77);
    ahoy_connect_options connect = CONNECT_OPTIONS(.framing = AHOY_FRAMING_DELIMITER, .framing_options = &nothing);
    CHECK_STATUS(ahoy_connect(server, "tcp://127.0.0.1:1", &connect, NULL), AHOY_ERR_NULL);
    ahoy_request_options request = REQUEST_OPTIONS(.framing = AHOY_FRAMING_DELIMITER, .framing_options = &nothing);
    CHECK_STATUS(ahoy_request("tcp://127.0.0.1:1", &request, "x", 1, NULL, 0, NULL), AHOY_ERR_NULL);
}

static void where_it_means_none(ahoy_server server, ahoy_conn conn, const char *url) {
    const ahoy_part parts[] = { { NULL, 0 }, { "echo", 4 }, { NULL, 0 } };
    size_t count = 77;
    CHECK_OK(ahoy_send_parts(conn, NULL, 0));
    CHECK_OK(ahoy_send_parts(conn, parts, 1));
    CHECK_OK(ahoy_send_parts(conn, parts, 3));
    latch_wait(&seen.bytes, 4);
    CHECK_OK(ahoy_timer_start(server, 0, 0, on_timer, NULL, NULL, NULL));
    CHECK_OK(ahoy_conn_timer_start(conn, 0, 0, on_timer, NULL, NULL, NULL));
    latch_wait(&fired, 2);
    CHECK_OK(ahoy_subscribe(server, "news", on_topic, NULL, NULL, NULL));
    CHECK_OK(ahoy_publish(server, "news", NULL, 0));
    latch_wait(&fired, 3);
    CHECK_OK(ahoy_connect(server, url, NULL, NULL));
    latch_wait(&seen.opened, 2);
    CHECK_OK(ahoy_request(url, NULL, "x", 1, NULL, 0, NULL));
    CHECK_STATUS(ahoy_server_listeners(server, NULL, 0, &count), AHOY_ERR_TOO_LONG);
    CHECK_EQ(count, 1);
    CHECK_STATUS(ahoy_metrics_text(server, NULL, 0, NULL), AHOY_ERR_TOO_LONG);
}

int main(void) {
    tally echoed = TALLY_INIT;
    char url[128];
    ahoy_server far = start(OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &echoed, .on_message = tally_echo));
    CHECK_OK(ahoy_server_address(far, 0, url, sizeof url));
    /* The callbacks that are not named are NULL, as they may be. */
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 2, .user = &seen, .on_open = tally_open,
                                       .on_message = tally_message));
    ahoy_conn conn = outgoing(server, url, CONNECT_OPTIONS(.reconnect = 1)); /* on_down is NULL */
    latch_wait(&seen.opened, 1);
    where_a_pointer_is_needed(server, conn);
    in_options(server);
    where_it_means_none(server, conn, url);
    ahoy_server_free(server);
    ahoy_server_free(far);
    return 0;
}
