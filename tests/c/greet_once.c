/*
 * ahoy_greet_once: one client, once, as the tutorial server does. What the client said comes back with a
 * zero byte after it, errors tell what was wrong, and nothing is left.
 */
#include "support.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

/* A client that comes as soon as somebody listens. */
typedef struct visit {
    char url[128];
    const char *words;
    char answer[64];
    ssize_t answer_bytes;
} visit;

static void *come(void *arg) {
    visit *visit = arg;
    int fd;
    while ((fd = try_dial_url(visit->url)) < 0) wait_moment();
    if (visit->words) send_all(fd, visit->words, strlen(visit->words));
    else CHECK(shutdown(fd, SHUT_WR) == 0);
    visit->answer_bytes = recv_until_eof(fd, visit->answer, sizeof visit->answer - 1);
    close(fd);
    return NULL;
}

static pthread_t send_visitor(visit *visit, const char *url, const char *words) {
    pthread_t thread;
    memset(visit, 0, sizeof *visit);
    snprintf(visit->url, sizeof visit->url, "%s", url);
    visit->words = words;
    CHECK(!pthread_create(&thread, NULL, come, visit));
    return thread;
}

/* A port that was free a moment ago. */
static int free_port(void) {
    struct sockaddr_in name = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t len = sizeof name;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(!bind(fd, (struct sockaddr *)&name, len) && !getsockname(fd, (struct sockaddr *)&name, &len));
    close(fd);
    return ntohs(name.sin_port);
}

static void words_come_back(const char *url) {
    char text[64];
    size_t received = 77;
    visit visit;

    pthread_t client = send_visitor(&visit, url, "Hello from client");
    memset(text, 'z', sizeof text);
    CHECK_OK(ahoy_greet_once(url, "Hello!", text, sizeof text, &received));
    CHECK(!pthread_join(client, NULL));
    CHECK_TEXT(text, "Hello from client");
    CHECK_EQ(received, 17);
    CHECK_EQ(text[18], 'z'); /* nothing behind the zero byte is touched */
    CHECK_EQ(visit.answer_bytes, 6);
    CHECK_TEXT(visit.answer, "Hello!");
}

static void a_short_buffer_gets_the_beginning(const char *url) {
    char text[6];
    size_t received = 77;
    visit visit;

    pthread_t client = send_visitor(&visit, url, "Hello from client");
    CHECK_OK(ahoy_greet_once(url, NULL, text, sizeof text, &received));
    CHECK(!pthread_join(client, NULL));
    CHECK_TEXT(text, "Hello");
    CHECK_EQ(received, 5);
    CHECK_EQ(visit.answer_bytes, 17); /* the whole greeting, not a reset */
    CHECK_TEXT(visit.answer, "Hello from server");

    client = send_visitor(&visit, url, "Hello from client");
    CHECK_OK(ahoy_greet_once(url, NULL, text, 1, &received));
    CHECK(!pthread_join(client, NULL));
    CHECK_EQ(text[0], '\0');
    CHECK_EQ(received, 0);
    CHECK_EQ(visit.answer_bytes, 17);

    client = send_visitor(&visit, url, "Hello from client");
    CHECK_OK(ahoy_greet_once(url, NULL, NULL, 0, NULL)); /* does not care */
    CHECK(!pthread_join(client, NULL));
    CHECK_EQ(visit.answer_bytes, 17);
}

static void a_silent_client_is_greeted_all_the_same(const char *url) {
    char text[64] = "before";
    size_t received = 77;
    visit visit;
    pthread_t client = send_visitor(&visit, url, NULL);
    CHECK_OK(ahoy_greet_once(url, NULL, text, sizeof text, &received));
    CHECK(!pthread_join(client, NULL));
    CHECK_TEXT(text, "");
    CHECK_EQ(received, 0);
    CHECK_TEXT(visit.answer, "Hello from server");
}

/* The default of the tutorial: every interface, port 8888. */
static void the_default_address(void) {
    visit visit;
    pthread_t client = send_visitor(&visit, "tcp://127.0.0.1:8888", "hi");
    CHECK_OK(ahoy_greet_once(NULL, NULL, NULL, 0, NULL));
    CHECK(!pthread_join(client, NULL));
    CHECK_TEXT(visit.answer, "Hello from server");
}

static void errors(void) {
    static const struct { const char *url; ahoy_status status; } bad[] = {
        { "", AHOY_ERR_URL }, { "8888", AHOY_ERR_URL }, { "http://127.0.0.1:1", AHOY_ERR_URL },
        { "tcp://127.0.0.1:65536", AHOY_ERR_PORT }, { "tcp://127.0.0.1:x", AHOY_ERR_PORT },
        { "tcp://192.0.2.1:0", AHOY_ERR_ADDRESS_UNAVAILABLE },
        { "unix:/nonexistent/a.sock", AHOY_ERR_NOT_FOUND },
    };
    size_t received = 77;
    char text[8] = "before";
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK_STATUS(ahoy_greet_once(bad[i].url, NULL, text, sizeof text, &received), bad[i].status);
        CHECK(strlen(ahoy_last_error()) > 0);
    }
    CHECK_EQ(received, 77);
    CHECK_TEXT(text, "before");

    ahoy_server server = start(OPTIONS(.listen = LOOPBACK));
    char url[128];
    CHECK_OK(ahoy_server_address(server, 0, url, sizeof url));
    CHECK_STATUS(ahoy_greet_once(url, NULL, NULL, 0, NULL), AHOY_ERR_ADDRESS_IN_USE);
    ahoy_server_free(server);
}

int main(void) {
    holdings before = holdings_now();
    char tcp[64], file[128];
    snprintf(tcp, sizeof tcp, "tcp://127.0.0.1:%d", free_port());
    snprintf(file, sizeof file, "unix:%s/once.sock", make_folder());
    const char *urls[] = { tcp, file, abstract_url() };
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        words_come_back(urls[i]);
        CHECK_HOLDINGS(before);
        a_short_buffer_gets_the_beginning(urls[i]);
        a_silent_client_is_greeted_all_the_same(urls[i]);
    }
    CHECK(access(file + 5, F_OK) != 0); /* no socket file is left */
    the_default_address();
    errors();
    CHECK_HOLDINGS(before);
    remove_folder();
    return 0;
}
