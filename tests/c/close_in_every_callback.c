/* A connection may be closed inside every callback, its own included: one on_close follows. */
#include "stage.h"

static void close_it(stage *stage) {
    ahoy_status status = ahoy_conn_close(stage->conn);
    if (stage->at == ON_FREE_USER || stage->at == ON_FREE_SERVER) {
        CHECK_STATUS(status, AHOY_ERR_STALE); /* on_close has returned */
    } else if (stage->at == ON_TOPIC) {
        CHECK_OK(status); /* from there on the connection's worker may be done with it at any moment */
    } else if (stage->at < ON_FREE_SEND) {
        CHECK_OK(status);
        CHECK_OK(ahoy_conn_close(stage->conn)); /* also when it is closing already */
        CHECK_STATUS(ahoy_send(stage->conn, "x", 1), AHOY_ERR_CLOSED);
    }
    /* on_close never runs inside the call. */
    if (stage->at < ON_CLOSE) CHECK_EQ(latch_count(&stage->seen.closed), 0);
}

int main(void) {
    static const int32_t workers[] = { 1, 2, AHOY_WORKERS_NONE };
    for (int at = 0; at < PLACES; at++) {
        for (size_t i = 0; i < sizeof workers / sizeof workers[0]; i++) {
            stage stage;
            printf("close in %s, %d workers\n", place_names[at], workers[i]);
            stage_play(&stage, at, workers[i], close_it);
            if (at == ON_OPEN) CHECK_EQ(latch_count(&stage.seen.messages), 0);
            /* The program closed it, and what was queued is out. */
            if (at < ON_FREE_SEND && at != ON_DRAIN) CHECK_STATUS(stage.seen.reason, AHOY_OK);
        }
    }
    return 0;
}
