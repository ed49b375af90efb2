/*
 * libevent: a listener and bufferevents, as its book does it. The echo moves what came from the input
 * buffer to the output buffer without a copy.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/socket.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>

#include "peer.h"

static _Noreturn void die(const char *what)
{
    peer_die(what, strerror(errno));
}

static void on_read_echo(struct bufferevent *bev, void *user)
{
    (void)user;
    if (evbuffer_add_buffer(bufferevent_get_output(bev), bufferevent_get_input(bev)))
        die("evbuffer_add_buffer");
}

/* The head is written anew, the message is moved. */
static void on_read_framed(struct bufferevent *bev, void *user)
{
    (void)user;
    struct evbuffer *input = bufferevent_get_input(bev), *output = bufferevent_get_output(bev);
    char head[PEER_HEAD_BYTES];
    while (evbuffer_copyout(input, head, sizeof head) == PEER_HEAD_BYTES) {
        size_t message = peer_head(head);
        if (message > PEER_MESSAGE_BYTES_MAX) {
            bufferevent_free(bev);
            return;
        }
        if (evbuffer_get_length(input) < PEER_HEAD_BYTES + message)
            return;
        peer_set_head(head, message);
        if (evbuffer_drain(input, PEER_HEAD_BYTES) || evbuffer_add(output, head, sizeof head) ||
            evbuffer_remove_buffer(input, output, message) != (int)message)
            die("evbuffer");
    }
}

static void on_event(struct bufferevent *bev, short events, void *user)
{
    (void)user;
    if (events & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
        bufferevent_free(bev);
}

static void on_greeted(struct bufferevent *bev, void *user)
{
    (void)user;
    bufferevent_free(bev);
}

static void on_read_greet(struct bufferevent *bev, void *user)
{
    (void)user;
    if (bufferevent_disable(bev, EV_READ) || bufferevent_write(bev, PEER_GREETING, PEER_GREETING_BYTES))
        die("bufferevent_write");
    bufferevent_setcb(bev, NULL, on_greeted, on_event, NULL);
}

static bufferevent_data_cb on_read = on_read_echo;

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address, int len, void *user)
{
    (void)address, (void)len, (void)user;
    struct bufferevent *bev = bufferevent_socket_new(evconnlistener_get_base(listener), fd, BEV_OPT_CLOSE_ON_FREE);
    if (!bev)
        die("bufferevent_socket_new");
    bufferevent_setcb(bev, on_read, NULL, on_event, NULL);
    if (bufferevent_enable(bev, EV_READ | EV_WRITE))
        die("bufferevent_enable");
}

static void on_accept_error(struct evconnlistener *listener, void *user)
{
    (void)listener, (void)user;
    die("accept");
}

int main(int argc, char **argv)
{
    static char version[64];
    snprintf(version, sizeof version, "libevent %s", event_get_version());
    struct peer peer = peer_arguments(argc, argv, "echo greet framed ", version);
    if (!strcmp(peer.mode, "greet"))
        on_read = on_read_greet;
    else if (!strcmp(peer.mode, "framed"))
        on_read = on_read_framed;

    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(peer.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)
    };
    socklen_t len = sizeof address;
    int one = 1;
    signal(SIGPIPE, SIG_IGN); /* it writes with writev(2) */
    struct event_base *base = event_base_new();
    if (!base)
        die("event_base_new");
    struct evconnlistener *listener =
        evconnlistener_new_bind(base, on_accept, NULL, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE,
                                PEER_BACKLOG, (struct sockaddr *)&address, sizeof address);
    if (!listener)
        die("evconnlistener_new_bind");
    evconnlistener_set_error_cb(listener, on_accept_error);
    evutil_socket_t fd = evconnlistener_get_fd(listener);
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one))
        die("setsockopt");
    if (getsockname(fd, (struct sockaddr *)&address, &len))
        die("getsockname");
    peer_listens(ntohs(address.sin_port));
    return event_base_dispatch(base);
}
