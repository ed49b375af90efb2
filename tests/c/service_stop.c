/*
 * A server that stops with calls in hand: a drain waits for their answers; at its end callers are told that the server
 * stopped, exactly once, answers come too late, and what the program lent is freed, before on_free of the server.
 */
#include "support.h"

enum { CALLS = 100 };

static latch told, freed, ended, stopped, taken;
static _Atomic uint64_t kept;

static void begin(void) {
    told = freed = ended = stopped = taken = (latch)LATCH_INIT;
}

static void keep(ahoy_incoming call, const void *data, size_t len, void *user) {
    (void)data, (void)len, (void)user;
    kept = call.id;
    latch_add(&taken, 1);
}

static void stop(ahoy_incoming call, const void *data, size_t len, void *user) {
    (void)data, (void)len;
    ahoy_server *server = user;
    ahoy_server_stop(*server, 5000);
    CHECK_OK(ahoy_reply(call, "stopped", 7));
}

static void free_server(ahoy_incoming call, const void *data, size_t len, void *user) {
    (void)data, (void)len;
    ahoy_server_free(*(ahoy_server *)user);
    ahoy_status status = ahoy_reply(call, "freed", 5);
    CHECK(status == AHOY_OK || status == AHOY_ERR_STALE || status == AHOY_ERR_STOPPED);
}

static void on_reply(ahoy_server from, ahoy_status status, const void *data, size_t len, void *user) {
    (void)from, (void)data, (void)len, (void)user;
    CHECK_EQ(latch_count(&ended), 0);
    if (status == AHOY_ERR_STOPPED) latch_add(&stopped, 1);
    else if (status != AHOY_ERR_FAILED) CHECK_OK(status);
    latch_add(&told, 1);
}

static void count_service_free(void *user) {
    (void)user;
    CHECK_EQ(latch_count(&ended), 0);
    latch_add(&freed, 1);
}

static void on_free(void *user) {
    (void)user;
    latch_add(&ended, 1);
}

static void drain_waits(void) {
    begin();
    ahoy_server server = start(OPTIONS(.workers = 2, .on_free = on_free));
    CHECK_OK(ahoy_service(server, "keep", NULL, keep, NULL, count_service_free, NULL));
    CHECK_OK(ahoy_call(server, "keep", NULL, 0, NULL, on_reply, NULL));
    latch_wait(&taken, 1);
    ahoy_server_stop(server, 60000);
    /* Nothing new is begun once the workers have seen the stop. */
    WAIT_UNTIL(latch_count(&freed) == 1);
    CHECK_STATUS(ahoy_call(server, "keep", NULL, 0, NULL, on_reply, NULL), AHOY_ERR_STOPPED);
    CHECK_STATUS(ahoy_service(server, "x", NULL, keep, NULL, count_service_free, NULL), AHOY_ERR_STOPPED);
    CHECK_EQ(latch_count(&ended), 0);
    CHECK_OK(ahoy_reply((ahoy_incoming){ kept }, "done", 4));
    CHECK_OK(ahoy_server_wait(server));
    CHECK_EQ(latch_count(&told), 1);
    CHECK_EQ(latch_count(&stopped), 0);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&freed), 1);
}

static void cut_off(ahoy_status (*stop_it)(ahoy_server)) {
    begin();
    ahoy_server server = start(OPTIONS(.workers = 2, .on_free = on_free));
    CHECK_OK(ahoy_service(server, "keep", NULL, keep, NULL, count_service_free, NULL));
    for (int i = 0; i < CALLS; i++) CHECK_OK(ahoy_call(server, "keep", NULL, 0, NULL, on_reply, NULL));
    latch_wait(&taken, CALLS);
    CHECK_OK(stop_it(server));
    CHECK_EQ(latch_count(&told), CALLS);
    CHECK_EQ(latch_count(&freed), 1);
    CHECK_EQ(latch_count(&ended), 1);
    CHECK_STATUS(ahoy_reply((ahoy_incoming){ kept }, "late", 4), AHOY_ERR_STALE);
    ahoy_server_free(server);
}

static ahoy_status stop_at_once(ahoy_server server) {
    ahoy_server_stop(server, 0);
    return ahoy_server_wait(server);
}

static ahoy_status stop_soon(ahoy_server server) {
    ahoy_server_stop(server, 50);
    return ahoy_server_wait(server);
}

static ahoy_status free_it(ahoy_server server) {
    ahoy_server_free(server);
    return AHOY_OK;
}

static void in_the_handler(void) {
    static ahoy_server server;
    begin();
    server = start(OPTIONS(.workers = 2, .on_free = on_free));
    CHECK_OK(ahoy_service(server, "stop", NULL, stop, &server, count_service_free, NULL));
    char answer[8];
    size_t len;
    CHECK_OK(ahoy_call_wait(server, "stop", NULL, 0, NULL, answer, sizeof answer, &len));
    CHECK_EQ(len, 7);
    CHECK_OK(ahoy_server_wait(server));
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&freed), 1);

    begin();
    server = start(OPTIONS(.workers = 2, .on_free = on_free));
    CHECK_OK(ahoy_service(server, "free", NULL, free_server, &server, count_service_free, NULL));
    CHECK_OK(ahoy_call(server, "free", NULL, 0, NULL, on_reply, NULL));
    latch_wait(&ended, 1);
    CHECK_EQ(latch_count(&told), 1);
    CHECK_EQ(latch_count(&freed), 1);
}

int main(void) {
    holdings before = holdings_now();
    drain_waits();
    cut_off(stop_at_once);
    cut_off(stop_soon);
    cut_off(free_it);
    in_the_handler();
    WAIT_UNTIL(threads_running() == before.threads);
    CHECK_HOLDINGS(before);
    return 0;
}
