use super::*;

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// Which socket of the group gets `packet`. Loopback delivers before `send_to` returns.
fn receiver(group: &UdpGroup, packet: &[u8]) -> usize {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.send_to(packet, group.address).unwrap();
    let mut buffer = [0; 100];
    let got: Vec<usize> =
        (0..group.sockets.len()).filter(|core| group.sockets[*core].recv(&mut buffer).is_ok()).collect();
    assert_eq!(got.len(), 1, "one socket gets it: {got:?}");
    got[0]
}

#[test]
fn packets_go_to_the_core_their_connection_id_names() {
    let group = bind_group(ANY_PORT, 3).unwrap();
    for id in [0u8, 1, 2, 3, 4, 5, 254, 255] {
        let long = [0xc0, 0, 0, 0, 1, 8, id, 99, 99];
        let short = [0x40, id, 99, 99, 99, 99, 99, 99];
        assert_eq!(receiver(&group, &long), usize::from(id) % 3, "long header, id {id}");
        assert_eq!(receiver(&group, &short), usize::from(id) % 3, "short header, id {id}");
    }
    assert_eq!(receiver(&group, &[0xc0, 1]), 0, "too short to say");
}

#[test]
fn a_port_in_use_is_found_out_by_a_second_group_too() {
    let group = bind_group(ANY_PORT, 2).unwrap();
    for cores in [1, 2] {
        let error = bind_group(group.address, cores).unwrap_err();
        assert!(matches!(error, BindError::InUse { .. }), "{error}");
        assert!(error.to_string().contains("--listen"), "{error}");
    }
    let alone = bind_group(ANY_PORT, 1).unwrap();
    assert!(matches!(bind_group(alone.address, 1), Err(BindError::InUse { .. })));
    let plain = UdpSocket::bind("127.0.0.1:0").unwrap();
    assert!(matches!(bind_group(plain.local_addr().unwrap(), 2), Err(BindError::InUse { .. })));
    let address = group.address;
    drop(group);
    assert_eq!(bind_group(address, 2).unwrap().address, address);
}

#[test]
fn an_address_of_another_machine_is_refused() {
    let error = bind_group("192.0.2.1:0".parse().unwrap(), 1).unwrap_err();
    assert!(matches!(error, BindError::NotLocal { .. }), "{error}");
}

#[test]
fn the_unspecified_ipv6_address_takes_ipv4_as_well() {
    let Ok(group) = bind_group("[::]:0".parse().unwrap(), 2) else {
        // A machine without IPv6 has nothing to show here.
        return;
    };
    let v4 = UdpGroup { address: SocketAddr::new([127, 0, 0, 1].into(), group.address.port()), ..group };
    assert_eq!(receiver(&v4, &[0x40, 1, 0]), 1);
}

#[test]
fn the_buffers_reached_are_told() {
    let group = bind_group(ANY_PORT, 1).unwrap();
    assert!(group.receive_buffer_bytes >= 64 << 10, "{}", group.receive_buffer_bytes);
    assert!(group.send_buffer_bytes >= 64 << 10, "{}", group.send_buffer_bytes);
}
