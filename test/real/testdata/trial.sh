# Run under systemd by boot.sh: the service as an operator has it.
poll() { # the replies to a short session
	exec 3<>/dev/tcp/127.0.0.1/110 || return
	printf 'USER m\r\nPASS pass\r\nSTAT\r\nQUIT\r\n' >&3
	timeout 10 cat <&3 | tr -d '\r'
	exec 3>&-
}
pid() { systemctl show -p MainPID --value pop3gw; }
until_is() { # until_is STATE: for 20 s at most
	for _ in $(seq 200); do
		[ "$(systemctl is-active pop3gw)" = "$1" ] && break
		sleep 0.1
	done
	systemctl is-active pop3gw
}
until_other() { # until_other PID: until another process serves
	for _ in $(seq 300); do
		[ "$(pid)" != "$1" ] && [ "$(pid)" != 0 ] && [ "$(systemctl is-active pop3gw)" = active ] && echo another && return
		sleep 0.1
	done
	systemctl status pop3gw --no-pager
}
is() { echo "# $1"; }

mkdir -p /var/mail/m/cur /var/mail/m/new /var/mail/m/tmp
printf 'Subject: hi\n\nhello\n' >/var/mail/m/new/1.a.b
chown -R pop3gw: /var/mail/m
mkdir -p /etc/systemd/system/pop3gw.service.d
printf '[Service]\nReadWritePaths=/var/mail\nWatchdogSec=2s\n' >/etc/systemd/system/pop3gw.service.d/trial.conf
cat >/etc/pop3gw/config.toml <<'CONFIG'
hostname = "pop.example.org"
[[listeners]]
address = "127.0.0.1:110"
tls = "none"
cleartext_login = "always"
[adapters.files]
type = "maildir"
path = "/var/mail/{user}"
[[users]]
name = "m"
password = "{PLAIN}pass"
adapter = "files"
[state]
url = "file:///var/lib/pop3gw"
CONFIG
systemctl daemon-reload

is start
systemctl start pop3gw && poll
is status
systemctl show -p StatusText --value pop3gw
is 'as whom'
ps -o user= -p "$(pid)" 2>/dev/null || stat -c %U /proc/"$(pid)"
is reload
sed -i 's/pop\.example\.org/mail.example.org/' /etc/pop3gw/config.toml
sed -i 's/{PLAIN}pass/{PLAIN}new/' /etc/pop3gw/config.toml
systemctl reload pop3gw && echo "status $?"
poll | sed -n 3p
sed -i 's/{PLAIN}new/{PLAIN}pass/' /etc/pop3gw/config.toml
is 'reload of a wrong configuration'
sed -i 's/^hostname/hostnam/' /etc/pop3gw/config.toml
systemctl reload pop3gw >/dev/null 2>&1
echo "status $?, $(systemctl is-active pop3gw)"
is 'start with it'
systemctl restart pop3gw 2>/dev/null
until_is failed
sleep 3
systemctl show -p Result,ExecMainStatus,NRestarts pop3gw
sed -i 's/^hostnam /hostname /' /etc/pop3gw/config.toml
is 'after kill -9'
systemctl reset-failed pop3gw
systemctl start pop3gw
was=$(pid)
kill -9 "$was"
until_other "$was"
poll | tail -n 1
is watchdog
was=$(pid)
sleep 4 # of which it wants to hear every 2
[ "$(pid)" = "$was" ] && echo the same
kill -STOP "$was"
until_other "$was"
poll | tail -n 1
is stop
systemctl stop pop3gw
systemctl show -p Result,ExecMainStatus pop3gw
is sockets
mkdir -p /etc/systemd/system/pop3gw.socket.d
printf '[Socket]\nListenStream=\nListenStream=127.0.0.1:110\n' >/etc/systemd/system/pop3gw.socket.d/trial.conf
systemctl daemon-reload
systemctl start pop3gw.socket
systemctl is-active pop3gw
poll
systemctl is-active pop3gw
is end
