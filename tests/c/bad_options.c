/*
 * Options that are wrong: each its own status and a detail, before anything is started. Structs of another
 * size: an unset one is refused, a newer one is taken as long as it asks for nothing new.
 */
#include "support.h"

#include <unistd.h>

static void refuse(ahoy_server_options options, ahoy_status expected) {
    holdings before = holdings_now();
    tally seen = TALLY_INIT;
    ahoy_server server = { 77 };
    options.on_free = tally_free;
    options.user = &seen;
    CHECK_STATUS(ahoy_server_start(&options, &server), expected);
    CHECK_EQ(server.id, 77);
    CHECK(strlen(ahoy_last_error()) > 0);
    CHECK_EQ(latch_count(&seen.freed), 0);
    CHECK_HOLDINGS(before);
}

static ahoy_server_options with_size(size_t size) {
    ahoy_server_options options = OPTIONS(.listen = LOOPBACK);
    options.size = size;
    return options;
}

static void sizes(void) {
    refuse(with_size(0), AHOY_ERR_SIZE);
    refuse(with_size(1), AHOY_ERR_SIZE);
    refuse(with_size(sizeof(size_t)), AHOY_ERR_SIZE);
    refuse(with_size(offsetof(ahoy_server_options, on_drain) - 1), AHOY_ERR_SIZE);
    refuse(with_size(1 << 20), AHOY_ERR_SIZE);
    refuse(with_size(SIZE_MAX), AHOY_ERR_SIZE);
}

/* As a program that was compiled with the header of 0.1: the structs ended earlier. */
static void older_structs(void) {
    ahoy_server_options older = OPTIONS(.listen = LOOPBACK, .message_ms = 1, .overflow = 77);
    older.size = offsetof(ahoy_server_options, on_drain);
    ahoy_server server = { 0 };
    CHECK_OK(ahoy_server_start(&older, &server)); /* what lies behind its end is not looked at */
    char answer[17];
    int fd = dial(server);
    send_all(fd, "hi", 2);
    CHECK_EQ(recv_until_eof(fd, answer, sizeof answer), 17);
    close(fd);

    ahoy_stats stats = { .size = offsetof(ahoy_stats, messages_out), .messages_out = 77, .turns = 77 };
    WAIT_UNTIL(stats_of(server).closed == 1);
    CHECK_OK(ahoy_server_stats(server, &stats));
    CHECK_EQ(stats.size, offsetof(ahoy_stats, messages_out));
    CHECK_EQ(stats.opened, 1);
    CHECK_EQ(stats.messages_out, 77); /* nor written to */
    CHECK_EQ(stats.turns, 77);
    ahoy_server_free(server);
}

/* As a program that was compiled with the header of a later release. */
static void newer_structs(void) {
    struct {
        ahoy_server_options options;
        uint64_t later[4];
    } newer = { OPTIONS(.listen = LOOPBACK), { 0 } };
    newer.options.size = sizeof newer;
    ahoy_server server = { 0 };
    CHECK_OK(ahoy_server_start(&newer.options, &server));

    struct {
        ahoy_stats stats;
        uint64_t later[4];
    } stats = { { .size = sizeof stats }, { 7, 7, 7, 7 } };
    CHECK_OK(ahoy_server_stats(server, &stats.stats));
    CHECK_EQ(stats.stats.size, sizeof stats);
    for (int i = 0; i < 4; i++) CHECK_EQ(stats.later[i], 0); /* this library does not count that */
    ahoy_server_free(server);

    newer.later[3] = 1;
    server.id = 77;
    CHECK_STATUS(ahoy_server_start(&newer.options, &server), AHOY_ERR_UNSUPPORTED);
    CHECK_EQ(server.id, 77);
}

static void stats_sizes(void) {
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK));
    const size_t sizes[] = { 0, 1, offsetof(ahoy_stats, messages_out) - 1, 1 << 20, SIZE_MAX };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        ahoy_stats stats = { .size = sizes[i], .opened = 77 };
        CHECK_STATUS(ahoy_server_stats(server, &stats), AHOY_ERR_SIZE);
        CHECK_EQ(stats.opened, 77);
    }
    CHECK_STATUS(ahoy_server_stop(server, -2), AHOY_ERR_INVALID);
    CHECK_STATUS(ahoy_server_stop(server, INT32_MIN), AHOY_ERR_INVALID);
    ahoy_server_free(server);

    server = start(OPTIONS(.workers = AHOY_WORKERS_NONE));
    CHECK_STATUS(ahoy_server_turn(server, -2), AHOY_ERR_INVALID);
    CHECK_STATUS(ahoy_server_turn(server, INT32_MIN), AHOY_ERR_INVALID);
    ahoy_server_free(server);
}

static void numbers(void) {
    refuse(OPTIONS(.greet = 2), AHOY_ERR_ENUM);
    refuse(OPTIONS(.greet = -1), AHOY_ERR_ENUM);
    refuse(OPTIONS(.greet = INT32_MAX), AHOY_ERR_ENUM);
    refuse(OPTIONS(.workers = -2), AHOY_ERR_INVALID);
    refuse(OPTIONS(.workers = 1025), AHOY_ERR_INVALID);
    refuse(OPTIONS(.workers = INT32_MIN), AHOY_ERR_INVALID);
    refuse(OPTIONS(.overflow = 2), AHOY_ERR_ENUM);
    refuse(OPTIONS(.overflow = -1), AHOY_ERR_ENUM);
    refuse(OPTIONS(.queue_bytes_max = (1u << 30) + 1), AHOY_ERR_INVALID);
    refuse(OPTIONS(.queue_bytes_max = UINT32_MAX), AHOY_ERR_INVALID);
    refuse(OPTIONS(.greeting = NULL, .greeting_bytes = 1), AHOY_ERR_NULL);

    CHECK_STATUS(ahoy_log_set(-1, NULL, NULL), AHOY_ERR_ENUM);
    CHECK_STATUS(ahoy_log_set(6, NULL, NULL), AHOY_ERR_ENUM);
    CHECK_STATUS(ahoy_log_set(INT32_MAX, NULL, NULL), AHOY_ERR_ENUM);
}

/* The ends of the ranges are inside. */
static void extremes(void) {
    ahoy_server server = start(OPTIONS(
        .listen = LOOPBACK, .workers = 3, .connections_max = 1u << 24, .message_bytes_max = UINT32_MAX,
        .queue_bytes_max = 1u << 30, .queue_total_bytes_max = INT64_MAX, .backlog = INT32_MAX,
        .idle_ms = INT32_MAX, .drain_ms = INT32_MAX));
    char answer[17];
    CHECK_EQ(stats_of(server).workers, 3);
    int fd = dial(server);
    send_all(fd, "hi", 2);
    CHECK_EQ(recv_until_eof(fd, answer, sizeof answer), 17);
    close(fd);
    CHECK_OK(ahoy_server_stop(server, INT32_MAX));
    CHECK_OK(ahoy_server_wait(server));
    ahoy_server_free(server);

    server = start(OPTIONS(.listen = LOOPBACK, .connections_max = 1, .message_bytes_max = 17,
                           .queue_bytes_max = 17, .queue_total_bytes_max = 19, .backlog = 1,
                           .idle_ms = 1, .drain_ms = 1));
    ahoy_server_free(server);
}

int main(void) {
    sizes();
    older_structs();
    newer_structs();
    stats_sizes();
    numbers();
    extremes();
    return 0;
}
