/* A server may be stopped inside every callback: it drains, closes each connection, and ends. */
#include "stage.h"

static void stop_it(stage *stage) {
    ahoy_status status = ahoy_server_stop(stage->server, AHOY_DRAIN_DEFAULT);
    if (stage->at == ON_FREE_SERVER) {
        CHECK_STATUS(status, AHOY_ERR_STALE); /* it is freed by now */
        return;
    }
    /* An on_free may come when the server is being freed: its handle is stale then. */
    if (stage->at >= ON_FREE_SEND) {
        CHECK(status == AHOY_OK || status == AHOY_ERR_STALE);
        return;
    }
    CHECK_OK(status);
    CHECK_OK(ahoy_server_stop(stage->server, AHOY_DRAIN_DEFAULT)); /* also when it stops already */
    if (stage->at < ON_CLOSE) CHECK_EQ(latch_count(&stage->seen.closed), 0);
}

int main(void) {
    static const int32_t workers[] = { 1, 2, AHOY_WORKERS_NONE };
    for (int at = 0; at < PLACES; at++) {
        for (size_t i = 0; i < sizeof workers / sizeof workers[0]; i++) {
            stage stage;
            printf("stop in %s, %d workers\n", place_names[at], workers[i]);
            stage_play(&stage, at, workers[i], stop_it);
            if (at == ON_OPEN || at == ON_MESSAGE) CHECK_STATUS(stage.seen.reason, AHOY_ERR_STOPPED);
        }
    }
    return 0;
}
