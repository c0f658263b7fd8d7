use expect_test::expect;
use proptest::prelude::*;

use super::{
    super::{is_cloud_config, is_multipart, is_script, plan},
    WHOLE, becomes, does, facts, says,
};
use crate::document::{Report, Sources};

const MESSAGE: &str = "MIME-Version: 1.0
Content-Type: multipart/mixed;
 boundary=\"==x==\"

--==x==
Content-Type: text/cloud-config; charset=\"us-ascii\"
Content-Disposition: attachment; filename=\"config.yaml\"

#cloud-config
hostname: a
--==x==
Content-Type: text/x-shellscript
Content-Transfer-Encoding: base64

IyEvYmluL3NoCmVj
aG8gYQo=
--==x==
Content-Type: text/plain

#!/bin/sh
=
--==x==
Content-Type: text/plain

#include a
--==x==--
";

#[test]
fn a_message_has_parts_each_of_its_kind() {
    does(
        MESSAGE,
        expect![[r#"
        warning: this part is neither a cloud-config nor a script: it has no effect
          at user-data (part 4):1:1, $
            1 | #include a
              | ^
        make {"storage":{"files":[{"contents":{"compression":"","source":"data:,a%0A"},"mode":420,"overwrite":true,"path":"/etc/hostname"}]}}
        hostname a
        make {"passwd":{"users":[{"name":"core","sshAuthorizedKeys":["ssh-ed25519 P platform"]}]}}
        make {"storage":{"files":[{"contents":{"compression":"","source":"data:,LANG%3DC%0ACOREOS_PUBLIC_IPV4%3D203.0.113.1%0ACOREOS_PRIVATE_IPV4%3D10.0.0.1%0A"},"mode":420,"overwrite":true,"path":"/etc/environment"}]}}
        run script 2
        run script 3
    "#]],
    );
    does(
        "#!/bin/sh\necho $private_ipv4\n",
        expect![[r#"
        make {"passwd":{"users":[{"name":"core","sshAuthorizedKeys":["ssh-ed25519 P platform"]}]}}
        run script 1
    "#]],
    );
    becomes(
        "#!/bin/sh\necho $private_ipv4\n",
        expect![[r#"
            warning: $private_ipv4 stays as it is: no address is known before the boot
              at user-data:2:6, $
                2 | echo $private_ipv4
                  |      ^
            storage.files {"contents":{"compression":"","source":"data:,%23!%2Fbin%2Fsh%0Aecho%20%24private_ipv4%0A"},"mode":493,"overwrite":true,"path":"/var/lib/cloud-config/script-1"}
            systemd.units {"contents":"[Unit]\nDescription=Script 1 of the cloud-config\nWants=network-online.target\nAfter=network-online.target\n\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/var/lib/cloud-config/script-1\n\n[Install]\nWantedBy=multi-user.target\n","enabled":true,"name":"cloud-config-script-1.service"}
        "#]],
    );
}

#[test]
fn a_message_that_is_cut_is_refused() {
    says(
        MESSAGE.trim_end().trim_end_matches("--"),
        expect![[r#"
        error: the message does not end with `--==x==--`
          at user-data:26:8, $
           26 | --==x==
              |        ^
    "#]],
    );
    says(
        "Content-Type: multipart/mixed\n\nx\n",
        expect![[r#"
        error: the Content-Type of the message says no boundary
          at user-data:1:1, $
            1 | Content-Type: multipart/mixed
              | ^
    "#]],
    );
    says(
        &MESSAGE.replace("IyEvYmlu", "!!!!"),
        expect![[r#"
        error: a part that is not base64: Invalid symbol 33, offset 0.
          at user-data:12:1, $
           12 | Content-Type: text/x-shellscript
              | ^
    "#]],
    );
}

#[test]
fn text_is_recognised_by_its_first_line() {
    assert!(is_cloud_config("#cloud-config  \r\na: b"));
    assert!(!is_cloud_config("# cloud-config\n") && !is_cloud_config("\n#cloud-config\n"));
    assert!(is_script("#!/bin/sh\n") && !is_script("# !"));
    assert!(is_multipart(MESSAGE) && !is_multipart(WHOLE) && !is_multipart(""));
}

proptest! {
    #[test]
    fn no_message_is_too_strange(text in "Content-Type: multipart/mixed; boundary=(a|\"b)?\n\n(--a(--)?\n|Content-Type: text/plain\n|Content-Transfer-Encoding: (base64|quoted-printable)\n|\n|=4|#!|é){0,12}") {
        let (mut sources, mut report) = (Sources::default(), Report::default());
        plan("a", &text, &facts(), &mut sources, &mut report);
    }
}
