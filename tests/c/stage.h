/*
 * A play in which every callback of the library occurs once, on one connection: a test names the
 * callback in which something happens, and what.
 */
#ifndef TEST_STAGE_H
#define TEST_STAGE_H

#include "support.h"

typedef enum place {
    ON_OPEN,
    ON_MESSAGE,
    ON_WRITABLE,
    ON_END,
    ON_TIMER,             /* of ahoy_conn_timer_start */
    ON_DRAIN,             /* the only play that ends with a stop, and not with a close */
    ON_CLOSE,
    ON_TOPIC,             /* of ahoy_subscribe: it may run on another worker than the connection's */
    ON_FREE_SEND,         /* of ahoy_send_owned */
    ON_FREE_TIMER,
    ON_FREE_SUBSCRIPTION,
    ON_FREE_USER,         /* of ahoy_conn_set_user */
    ON_FREE_SERVER,       /* of ahoy_server_options */
    PLACES
} place;

extern const char *const place_names[PLACES];

typedef struct stage {
    tally seen;                     /* its `freed`: the server's on_free */
    latch sends_freed, users_freed; /* the on_free of the owned send and of the connection's user */
    latch ticked, timers_freed;     /* the connection's timer */
    latch heard, subscriptions_freed;
    ahoy_subscription subscription;
    latch acted;
    long marks;                     /* bytes STAGE_MARK that the client has received */
    ahoy_server server;             /* for calls where there is no connection to ask */
    ahoy_conn conn;
    place at;
    void (*act)(struct stage *stage);
} stage;

/* The play itself sends only other bytes. */
enum { STAGE_MARK = '!' };

/*
 * Plays: a client connects, sends, ends its side, and reads to the end; the server answers with more
 * than its queue holds. `act` runs once, in the callback `at`. Checks that each promised callback
 * ran exactly once, whatever `act` does, and that nothing is left.
 */
void stage_play(stage *stage, place at, int32_t workers, void (*act)(struct stage *stage));

#endif
