# Fetches mail with Net::POP3, remembering UIDLs in a file.
use strict;
use warnings;
use Net::POP3;

my ($port, $user, $password, $inbox, $seen_file, $purpose, $removable) = @ARGV;

my %seen;
if (open my $f, '<', $seen_file) {
    while (my $uid = <$f>) { chomp $uid; $seen{$uid} = 1 }
}

my $pop = Net::POP3->new("127.0.0.1:$port", Timeout => 60) or die "cannot connect: $@";
defined(my $count = $pop->login($user, $password)) or die "login: " . $pop->message;
my $list = $pop->list or die "LIST: " . $pop->message;
$count == keys %$list or die "login says $count messages, LIST " . keys %$list;
my $uidl = $pop->uidl or die "UIDL: " . $pop->message;

for my $number (sort { $a <=> $b } keys %$uidl) {
    my $uid = $uidl->{$number};
    if ($purpose eq 'remove' or not $seen{$uid}) {
        my $lines = $pop->get($number) or die "RETR $number: " . $pop->message;
        open my $f, '>:raw', "$inbox/$number" or die "$inbox/$number: $!";
        print $f @$lines;
        close $f or die "$inbox/$number: $!";
        $seen{$uid} = 1;
    }
    my $delete = $purpose eq 'remove';
    if ($purpose eq 'some') {
        my $top = $pop->top($number, 0) or die "TOP $number 0: " . $pop->message;
        $delete = grep { index($_, $removable) >= 0 } @$top;
    }
    if ($delete) {
        $pop->delete($number) or die "DELE $number: " . $pop->message;
    }
}
$pop->quit or die "QUIT: " . $pop->message;

open my $f, '>', $seen_file or die "$seen_file: $!";
print $f "$_\n" for sort keys %seen;
close $f or die "$seen_file: $!";
