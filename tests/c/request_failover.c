/*
 * ahoy_request goes on to the next URL where one cannot be reached; where one has got the question and breaks off
 * before the answer, only if the question may be asked twice. All URLs share the one deadline.
 */
#include "remote.h"

#include <unistd.h>

static tally served = TALLY_INIT;
static char alive[128];

/* The answer comes, and the question was asked there once. */
static void answered(const char *urls, ahoy_request_options options) {
    char answer[16] = "";
    long questions = latch_count(&served.messages);
    CHECK_OK(ahoy_request(urls, &options, "question", 8, answer, sizeof answer, NULL));
    CHECK_TEXT(answer, "question");
    CHECK_EQ(latch_count(&served.messages), questions + 1);
}

static void not_answered(const char *urls, ahoy_request_options options, ahoy_status status) {
    long questions = latch_count(&served.messages);
    size_t received = 77;
    CHECK_STATUS(ahoy_request(urls, &options, "question", 8, NULL, 0, &received), status);
    CHECK_EQ(received, 77);
    CHECK_EQ(latch_count(&served.messages), questions);
}

/* Somebody who gets the whole question and breaks off. */
typedef struct breaker {
    remote remote;
    bool reset;
    pthread_t thread;
} breaker;

static void *break_off(void *arg) {
    breaker *breaker = arg;
    char question[8];
    int fd = remote_accept(&breaker->remote);
    recv_exact(fd, question, sizeof question);
    if (breaker->reset) close_reset(fd);
    else close(fd);
    return NULL;
}

static void breaks_off(bool reset) {
    for (int idempotent = 0; idempotent < 2; idempotent++) {
        breaker breaker = { .remote = remote_listening(), .reset = reset };
        char list[256];
        snprintf(list, sizeof list, "%s,%s", breaker.remote.url, alive);
        CHECK(!pthread_create(&breaker.thread, NULL, break_off, &breaker));
        if (idempotent) answered(list, REQUEST_OPTIONS(.idempotent = 1));
        else not_answered(list, REQUEST_OPTIONS(0), reset ? AHOY_ERR_RESET : AHOY_ERR_EOF);
        CHECK(!pthread_join(breaker.thread, NULL));
        remote_end(&breaker.remote);
    }
}

int main(void) {
    enum { TIMEOUT_MS = 400 };
    holdings before = holdings_now();
    remote dead = remote_dead(), hole = remote_black_hole(), silent = remote_listening();
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 1, .on_message = tally_echo,
                                       .user = &served));
    CHECK_OK(ahoy_server_address(server, 0, alive, sizeof alive));
    char list[512];

    snprintf(list, sizeof list, "%s,%s", alive, dead.url);
    answered(list, REQUEST_OPTIONS(0));
    snprintf(list, sizeof list, "tcp://nobody.invalid:1,%s,unix:@nobody-here,%s,%s", dead.url, alive, hole.url);
    answered(list, REQUEST_OPTIONS(0));

    snprintf(list, sizeof list, "%s,%s", hole.url, alive);
    long begin = now_ms();
    answered(list, REQUEST_OPTIONS(.timeout_ms = TIMEOUT_MS));
    CHECK(now_ms() - begin >= TIMEOUT_MS / 4);

    breaks_off(false);
    breaks_off(true);

    /* Who has got the question and says nothing is given the time; there is none left for another. */
    snprintf(list, sizeof list, "%s,%s", silent.url, alive);
    begin = now_ms();
    not_answered(list, REQUEST_OPTIONS(.timeout_ms = TIMEOUT_MS), AHOY_ERR_TIMEOUT);
    CHECK(now_ms() - begin >= TIMEOUT_MS - 20);
    if (!is_slow()) CHECK(now_ms() - begin < 5 * TIMEOUT_MS);

    ahoy_server_free(server);
    remote_end(&dead), remote_end(&hole), remote_end(&silent);
    CHECK_HOLDINGS(before);
    return 0;
}
