# Reads Mozilla's certdata.txt and writes the certificates of the authorities
# that are trusted to identify web sites, as one file of PEM.
#
# usage: perl bundle.pl YYYYMMDD < certdata.txt > ca-certificates.crt
#
# The list is a series of objects, each of lines "NAME TYPE VALUE"; a value of
# type MULTILINE_OCTAL follows on lines of octal escapes up to END. A certificate
# and the trust in it are two objects with the same issuer and serial number.
use strict;
use warnings;
use MIME::Base64 qw(encode_base64);

my $day = shift // '';
$day =~ /^\d{8}$/ or die "usage: perl bundle.pl YYYYMMDD < certdata.txt\n";

my @objects;
my $object;
while (my $line = <STDIN>) {
    $line =~ s/\s+$//;
    next if $line =~ /^(#|$|BEGINDATA$)/;
    my ($name, $type, $value) = split ' ', $line, 3;
    if ($name eq 'CKA_CLASS') {
        $object = {};
        push @objects, $object;
    }
    if ($type eq 'MULTILINE_OCTAL') {
        $value = '';
        while (1) {
            $line = <STDIN> // die "line $.: the list ends within $name\n";
            last if $line =~ /^END\s*$/;
            $line =~ /^((\\[0-3][0-7][0-7])+)\s*$/ or die "line $.: not octal: $line";
            $value .= chr oct $1 while $line =~ /\\(\d{3})/g;
        }
    }
    $object->{$name} = $value if $object;
}

sub identity { my ($o) = @_; return join "\0", map { length($_) . ":$_" } @$o{qw(CKA_ISSUER CKA_SERIAL_NUMBER)} }

my %trusted;
for my $o (grep { $_->{CKA_CLASS} eq 'CKO_NSS_TRUST' } @objects) {
    $trusted{identity($o)} = $o->{CKA_TRUST_SERVER_AUTH} eq 'CKT_NSS_TRUSTED_DELEGATOR';
}

my $written = 0;
for my $o (grep { $_->{CKA_CLASS} eq 'CKO_CERTIFICATE' } @objects) {
    next unless $trusted{identity($o)};
    # Some authorities are trusted only for what they issued before a day. A file
    # of certificates can't say so: with the day, the authority goes.
    my $after = $o->{CKA_NSS_SERVER_DISTRUST_AFTER} // 'CK_FALSE';
    if ($after ne 'CK_FALSE') {
        my ($yymmdd) = $after =~ /^(\d{6})\d{6}Z$/ or die "not a time: $after\n";
        next if "20$yymmdd" <= $day;
    }
    my ($label) = $o->{CKA_LABEL} =~ /^"(.*)"$/ or die "not a label: $o->{CKA_LABEL}\n";
    # Lines of 64 characters, as RFC 7468 wants them.
    my @lines = unpack '(A64)*', encode_base64($o->{CKA_VALUE}, '');
    print join "\n", "# $label", '-----BEGIN CERTIFICATE-----', @lines, "-----END CERTIFICATE-----\n\n";
    $written++;
}
$written > 0 or die "no certificate in the list\n";
