/* A stale, forged or zero handle of a timer or a subscription is told so, and hurts no other. */
#include "support.h"

#include <unistd.h>

static latch fired = LATCH_INIT, freed = LATCH_INIT, heard = LATCH_INIT;

static void on_timer(ahoy_timer timer, ahoy_conn conn, void *user) {
    (void)timer, (void)conn, (void)user;
    latch_add(&fired, 1);
}

static void on_topic(ahoy_server server, const char *topic, const void *data, size_t len, void *user) {
    (void)server, (void)topic, (void)data, (void)len, (void)user;
    latch_add(&heard, 1);
}

static void refuse(uint64_t id) {
    CHECK_STATUS(ahoy_timer_cancel((ahoy_timer){ id }), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_unsubscribe((ahoy_subscription){ id }), AHOY_ERR_STALE);
}

/* Numbers that are near a real one; `real` itself would be found by the one of the two that it names. */
static void refuse_near(uint64_t real, uint64_t also_real) {
    for (int bit = 0; bit < 64; bit++) {
        if ((real ^ 1ull << bit) != also_real) refuse(real ^ 1ull << bit);
    }
    for (uint64_t step = 1; step < 100; step++) {
        if (real + step != also_real) refuse(real + step);
        if (real - step != also_real) refuse(real - step);
    }
}

int main(void) {
    tally seen = TALLY_INIT;
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 2, .user = &seen, .on_open = tally_open));
    ahoy_timer timer, over;
    ahoy_subscription subscription, ended;
    int fd = dial(server);
    latch_wait(&seen.opened, 1);

    CHECK_OK(ahoy_timer_start(server, 0, 0, on_timer, &freed, count_free, &over));
    CHECK_OK(ahoy_subscribe(server, "topic", on_topic, &freed, count_free, &ended));
    CHECK_OK(ahoy_unsubscribe(ended));
    latch_wait(&freed, 2);
    latch_wait(&fired, 1);
    CHECK_OK(ahoy_timer_start(server, 1, 1, on_timer, &freed, count_free, &timer));
    CHECK_OK(ahoy_subscribe(server, "topic", on_topic, &freed, count_free, &subscription));

    const uint64_t forged[] = { 0, 1, 2, UINT32_MAX, 1ull << 32, UINT64_MAX, UINT64_MAX - 1, INT64_MAX };
    for (size_t i = 0; i < sizeof forged / sizeof forged[0]; i++) {
        if (forged[i] != timer.id && forged[i] != subscription.id) refuse(forged[i]);
    }
    CHECK_STATUS(ahoy_timer_cancel(over), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_unsubscribe(ended), AHOY_ERR_STALE);
    refuse_near(timer.id, subscription.id);
    refuse_near(subscription.id, timer.id);

    /* Handles of other kinds are not mistaken for one, nor the other way round. */
    if (server.id != timer.id) CHECK_STATUS(ahoy_timer_cancel((ahoy_timer){ server.id }), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_timer_start((ahoy_server){ timer.id ^ 1ull << 63 }, 0, 0, on_timer, NULL, NULL, NULL),
                 AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_conn_timer_start((ahoy_conn){ UINT64_MAX }, 0, 0, on_timer, NULL, NULL, NULL), AHOY_ERR_STALE);

    /* None of that hurt those that live. */
    long before = latch_count(&fired);
    latch_wait(&fired, before + 3);
    CHECK_OK(ahoy_publish(server, "topic", "x", 1));
    latch_wait(&heard, 1);
    CHECK_EQ(latch_count(&freed), 2);
    CHECK_OK(ahoy_timer_cancel(timer));
    CHECK_OK(ahoy_unsubscribe(subscription));
    latch_wait(&freed, 4);

    /* A place that is taken again has another name. */
    for (int i = 0; i < 1000; i++) {
        ahoy_timer next;
        CHECK_OK(ahoy_timer_start(server, 3600000, 0, on_timer, &freed, count_free, &next));
        CHECK(next.id != timer.id && next.id != over.id);
        CHECK_STATUS(ahoy_timer_cancel(timer), AHOY_ERR_STALE);
        CHECK_OK(ahoy_timer_cancel(next));
        latch_wait(&freed, 5 + i);
    }
    close(fd);
    ahoy_server_free(server);
    refuse(timer.id), refuse(subscription.id);
    return 0;
}
