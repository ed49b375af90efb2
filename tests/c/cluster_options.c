/*
 * Clusters and what can be wrong with asking for one: each fault has its status, and nothing is left behind. A cluster that
 * is not there does not hold up a start, a stop or what happens inside this process.
 */
#include "support.h"

#include <unistd.h>

/* Nobody listens on port 1 of loopback. */
#define NOWHERE "nats://127.0.0.1:1/chat"

static latch changes = LATCH_INIT, heard = LATCH_INIT;
static _Atomic int32_t state_last;
static char why[256];

static void on_state(ahoy_server server, int32_t state, ahoy_status reason, void *user) {
    (void)server;
    CHECK(user == &changes);
    CHECK_EQ(state, AHOY_CLUSTER_JOINING);
    CHECK_STATUS(reason, AHOY_ERR_DISCONNECTED);
    snprintf(why, sizeof why, "%s", ahoy_last_error());
    state_last = state;
    latch_add(&changes, 1);
}

static void on_topic(ahoy_server server, const char *topic, const void *data, size_t len, void *user) {
    (void)server, (void)topic, (void)data, (void)len, (void)user;
    latch_add(&heard, 1);
}

static ahoy_status try_start(const char *url, const ahoy_cluster_options *particulars) {
    ahoy_server server = { 77 };
    ahoy_server_options options = OPTIONS(.workers = 1, .cluster = url, .cluster_options = particulars);
    ahoy_status status = ahoy_server_start(&options, &server);
    if (status) {
        CHECK_EQ(server.id, 77);
        CHECK(strlen(ahoy_last_error()) > 0);
    } else {
        ahoy_server_free(server);
    }
    return status;
}

#define PARTICULARS(...) (&(ahoy_cluster_options){ .size = sizeof(ahoy_cluster_options), __VA_ARGS__ })

static void bad_urls(void) {
    CHECK_STATUS(try_start("", NULL), AHOY_ERR_URL);
    CHECK_STATUS(try_start("chat", NULL), AHOY_ERR_URL);
    CHECK_STATUS(try_start("tcp://127.0.0.1:1/chat", NULL), AHOY_ERR_URL);
    CHECK_STATUS(try_start("nats://127.0.0.1:1", NULL), AHOY_ERR_URL);
    CHECK_STATUS(try_start("nats:///chat", NULL), AHOY_ERR_URL);
    CHECK_STATUS(try_start("nats://127.0.0.1:1,,b/chat", NULL), AHOY_ERR_URL);
    CHECK_STATUS(try_start("nats://127.0.0.1:99999/chat", NULL), AHOY_ERR_PORT);
    CHECK_STATUS(try_start("nats://127.0.0.1:1/", NULL), AHOY_ERR_URL);
    CHECK_STATUS(try_start("nats://127.0.0.1:1/two words", NULL), AHOY_ERR_INVALID);
    CHECK_STATUS(try_start("nats://127.0.0.1:1/under_line", NULL), AHOY_ERR_INVALID);
}

static void bad_particulars(void) {
    char long_text[2000];
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = 0;
    ahoy_cluster_options none = { 0 };
    CHECK_STATUS(try_start(NOWHERE, &none), AHOY_ERR_SIZE);
    CHECK_STATUS(try_start(NOWHERE, PARTICULARS(.node = "")), AHOY_ERR_INVALID);
    CHECK_STATUS(try_start(NOWHERE, PARTICULARS(.node = "a b")), AHOY_ERR_INVALID);
    CHECK_STATUS(try_start(NOWHERE, PARTICULARS(.node = long_text)), AHOY_ERR_INVALID);
    CHECK_STATUS(try_start(NOWHERE, PARTICULARS(.node = "\xff")), AHOY_ERR_URL);
    CHECK_STATUS(try_start(NOWHERE, PARTICULARS(.meta = long_text)), AHOY_ERR_TOO_LONG);
    CHECK_STATUS(try_start(NOWHERE, PARTICULARS(.user = "me")), AHOY_ERR_NULL);
    CHECK_STATUS(try_start(NOWHERE, PARTICULARS(.password = "secret")), AHOY_ERR_NULL);
    CHECK_STATUS(try_start(NOWHERE, PARTICULARS(.cert_file = "/nowhere")), AHOY_ERR_NULL);
    CHECK_STATUS(try_start(NOWHERE, PARTICULARS(.credentials = "/nowhere")), AHOY_ERR_NOT_FOUND);
    CHECK_STATUS(try_start(NOWHERE, PARTICULARS(.ca_file = "/nowhere")), AHOY_ERR_NOT_FOUND);
    CHECK_STATUS(try_start(NOWHERE, PARTICULARS(.join_ms = 100)), AHOY_ERR_DISCONNECTED);
    /* Without a cluster nobody looks at them. */
    CHECK_OK(try_start(NULL, PARTICULARS(.node = "a b")));
}

static void no_cluster_there(void) {
    ahoy_server server = start(OPTIONS(.workers = 1, .user = &changes, .cluster = NOWHERE, .on_cluster_state = on_state));
    int32_t state = 77;
    latch_wait(&changes, 1);
    CHECK(strstr(why, NOWHERE ": ") == why);
    CHECK_OK(ahoy_cluster_state(server, &state));
    CHECK_EQ(state, AHOY_CLUSTER_JOINING);
    /* What is in this process goes on; the program is told that nobody else gets it. */
    CHECK_OK(ahoy_subscribe(server, "news", on_topic, NULL, NULL, NULL));
    CHECK_STATUS(ahoy_publish(server, "news", "x", 1), AHOY_ERR_DISCONNECTED);
    CHECK(strstr(ahoy_last_error(), NOWHERE ": ") != NULL);
    latch_wait(&heard, 1);
    CHECK_OK(ahoy_server_stop(server, AHOY_DRAIN_DEFAULT));
    CHECK_OK(ahoy_server_wait(server));
    CHECK_OK(ahoy_cluster_state(server, &state));
    CHECK_EQ(state, AHOY_CLUSTER_LEFT);
    ahoy_server_free(server);
    CHECK_STATUS(ahoy_cluster_state(server, &state), AHOY_ERR_STALE);
}

static void without_a_cluster(void) {
    ahoy_server server = start(OPTIONS(.workers = 1));
    int32_t state = 77;
    CHECK_STATUS(ahoy_cluster_state(server, NULL), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_cluster_state((ahoy_server){ 0 }, &state), AHOY_ERR_STALE);
    CHECK_EQ(state, 77);
    CHECK_OK(ahoy_cluster_state(server, &state));
    CHECK_EQ(state, AHOY_CLUSTER_LOCAL);
    ahoy_server_free(server);
}

/* A loop of the program's own: the cluster's thread is the only one, and goes with the server. */
static void own_loop(void) {
    ahoy_server server = start(OPTIONS(.workers = AHOY_WORKERS_NONE, .user = &changes, .cluster = NOWHERE,
                                       .on_cluster_state = on_state));
    long before = latch_count(&changes);
    while (latch_count(&changes) == before) CHECK_OK(ahoy_server_turn(server, 1000));
    ahoy_server_free(server);
}

int main(void) {
    /* What the library sets up once and keeps. */
    CHECK_OK(try_start(NOWHERE, NULL));
    holdings before = holdings_now();
    bad_urls();
    bad_particulars();
    for (int i = 0; i < 3; i++) no_cluster_there(), changes = heard = (latch)LATCH_INIT;
    without_a_cluster();
    own_loop();
    CHECK_HOLDINGS(before);
    return 0;
}
