/*
 * A connection may be sent to inside every callback of its own: what was accepted arrives, and after the
 * end the answer is AHOY_ERR_CLOSED.
 */
#include "stage.h"

static const char mark = STAGE_MARK;
static ahoy_status status;

static void send_mark(stage *stage) {
    status = ahoy_send(stage->conn, &mark, 1);
}

int main(void) {
    static const int32_t workers[] = { 1, 2, AHOY_WORKERS_NONE };
    for (int at = 0; at < PLACES; at++) {
        for (size_t i = 0; i < sizeof workers / sizeof workers[0]; i++) {
            stage stage;
            printf("send in %s, %d workers\n", place_names[at], workers[i]);
            stage_play(&stage, at, workers[i], send_mark);
            if (at == ON_OPEN || at == ON_MESSAGE || at == ON_WRITABLE) CHECK_OK(status);
            /* What may come just after the message finds the queue still full. */
            bool any_time = at == ON_END || at == ON_TIMER || at == ON_DRAIN || at == ON_TOPIC;
            if (any_time) CHECK(status == AHOY_OK || status == AHOY_ERR_AGAIN);
            if (at == ON_CLOSE) CHECK_STATUS(status, AHOY_ERR_CLOSED);
            if (at == ON_FREE_USER || at == ON_FREE_SERVER) CHECK_STATUS(status, AHOY_ERR_STALE);
            CHECK_EQ(stage.marks, status == AHOY_OK ? 1 : 0);
        }
    }
    return 0;
}
