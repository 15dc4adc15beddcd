"""Every struct has exactly tailcfg's members, spelled as Go spells them (spec 3, 4, 5, 8)."""

from __future__ import annotations

from types import ModuleType

import msgspec
import pytest

from mergescale.wire.tailcfg import (
    derpmap,
    dns,
    handshake,
    hostinfo,
    hostviews,
    map_request,
    map_response,
    node,
    register,
    ssh,
    users,
)
from mergescale.wire.tailcfg import (
    filter as rules,
)
from mergescale.wire.tailcfg.names import CamelWire, Wire, go_name

MODULES: tuple[ModuleType, ...] = (
    derpmap,
    dns,
    rules,
    handshake,
    hostinfo,
    hostviews,
    map_request,
    map_response,
    node,
    register,
    ssh,
    users,
)

#: tailcfg's members in Go's order. Left out on purpose, with the reason in the struct's docstring:
#: SrcBits, Bits, Caps (filter), Groups (users), pubKeys (ssh), TempCorpIssue13969 (Go's own).
EXPECTED = {
    "OverTLSPublicKeyResponse": "legacyPublicKey publicKey",
    "EarlyNoise": "nodeKeyChallenge",
    "User": "ID DisplayName ProfilePicURL Created",
    "Login": "ID Provider LoginName DisplayName ProfilePicURL",
    "UserProfile": "ID LoginName DisplayName ProfilePicURL",
    "Service": "Proto Port Description",
    "PeerService": "Proto Port Description",
    "Location": "Country CountryCode City CityCode Latitude Longitude Priority",
    "TPMInfo": "Manufacturer Vendor Model FirmwareVersion SpecRevision FamilyIndicator",
    "NetInfo": (
        "MappingVariesByDestIP WorkingIPv6 OSHasIPv6 WorkingUDP WorkingICMPv4 HavePortMap UPnP PMP"
        " PCP PreferredDERP LinkType DERPLatency FirewallMode"
    ),
    "Hostinfo": (
        "IPNVersion FrontendLogID BackendLogID OS OSVersion Container Env Distro DistroVersion"
        " DistroCodeName App Desktop Package DeviceModel PushDeviceToken Hostname ShieldsUp"
        " ShareeNode NoLogsNoSupport RemoteConfig WireIngress IngressEnabled AllowsUpdate Machine"
        " GoArch GoArchVar GoVersion RoutableIPs RequestTags WoLMACs Services NetInfo sshHostKeys"
        " Cloud Userspace UserspaceRouter AppConnector ServicesHash PeerRelay ExitNodeID Location"
        " TPM StateEncrypted <raw>"
    ),
    "PeerHostinfo": "Hostname OS Services sshHostKeys AppConnector Location",
    "SelfHostinfo": "Hostname OS Services sshHostKeys AppConnector Location RoutableIPs",
    "RegisterResponseAuth": "Oauth2Token AuthKey",
    "RegisterRequest": (
        "Version NodeKey OldNodeKey NLKey Auth Expiry Followup Hostinfo Ephemeral NodeKeySignature"
        " SignatureType Timestamp DeviceCert Signature Tailnet"
    ),
    "RegisterResponse": (
        "User Login NodeKeyExpired MachineAuthorized AuthURL NodeKeySignature Error"
    ),
    "MapRequest": (
        "Version Compress KeepAlive NodeKey DiscoKey HardwareAttestationKey"
        " HardwareAttestationKeySignature HardwareAttestationKeySignatureTimestamp Stream Hostinfo"
        " MapSessionHandle MapSessionSeq Endpoints EndpointTypes TKAHead ReadOnly OmitPeers"
        " DebugFlags ConnectionHandleForTest"
    ),
    "PortRange": "First Last",
    "NetPortRange": "IP Ports",
    "CapGrant": "Dsts CapMap",
    "FilterRule": "SrcIPs DstPorts IPProto CapGrant",
    "Resolver": "Addr BootstrapResolution UseWithExitNode",
    "DNSRecord": "Name Type Value",
    "DNSConfig": (
        "Resolvers Routes FallbackResolvers Domains Proxied Nameservers CertDomains ExtraRecords"
        " ExitNodeFilteredSet"
    ),
    "DERPNode": (
        "Name RegionID HostName CertName IPv4 IPv6 STUNPort STUNOnly DERPPort InsecureForTests"
        " STUNTestIP CanPort80"
    ),
    "DERPRegion": ("RegionID RegionCode RegionName Latitude Longitude Avoid NoMeasureNoHome Nodes"),
    "DERPHomeParams": "RegionScore",
    "DERPMap": "HomeParams Regions omitDefaultRegions",
    "DERPAdmitClientRequest": "NodePublic Source",
    "DERPAdmitClientResponse": "Allow",
    "Node": (
        "ID StableID Name User Sharer Key KeyExpiry KeySignature Machine DiscoKey Addresses"
        " AllowedIPs Endpoints DERP HomeDERP Hostinfo Created Cap Tags PrimaryRoutes LastSeen"
        " Online MachineAuthorized Capabilities CapMap UnsignedPeerAPIOnly ComputedName"
        " ComputedNameWithHost DataPlaneAuditLogID Expired SelfNodeV4MasqAddrForThisPeer"
        " SelfNodeV6MasqAddrForThisPeer IsWireGuardOnly IsJailed ExitNodeDNSResolvers"
    ),
    "PeerChange": (
        "NodeID DERPRegion Cap CapMap Endpoints Key KeySignature DiscoKey Online LastSeen KeyExpiry"
    ),
    "PingRequest": "URL URLIsNoise Log Types IP Payload",
    "PingResponse": (
        "Type IP NodeIP NodeName Err LatencySeconds Endpoint PeerRelay DERPRegionID DERPRegionCode"
        " PeerAPIPort IsLocalIP"
    ),
    "TKAInfo": "Head Disabled",
    "ControlIPCandidate": "IP ACEHost DialStartDelaySec DialTimeoutSec Priority",
    "ControlDialPlan": "Candidates",
    "ClientVersion": (
        "RunningLatest LatestVersion UrgentSecurityUpdate Notify NotifyURL NotifyText"
    ),
    "Debug": "SleepSeconds DisableLogTail Exit",
    "DisplayMessageAction": "URL Label",
    "DisplayMessage": "Title Text Severity ImpactsConnectivity PrimaryAction",
    "MapResponse": (
        "MapSessionHandle Seq KeepAlive PingRequest PopBrowserURL Node DERPMap Peers PeersChanged"
        " PeersRemoved PeersChangedPatch PeerSeenChange OnlineChange DNSConfig Domain"
        " CollectServices PacketFilter PacketFilters UserProfiles Health DisplayMessages SSHPolicy"
        " ControlTime TKAInfo DomainDataPlaneAuditLogID Debug ControlDialPlan ClientVersion"
        " DefaultAutoUpdate"
    ),
    "SSHPolicy": "rules",
    "SSHRule": "ruleExpires principals sshUsers action acceptEnv",
    "SSHPrincipal": "node nodeIP userLogin any",
    "SSHAction": (
        "message reject accept sessionDuration allowAgentForwarding holdAndDelegate"
        " allowLocalPortForwarding allowRemotePortForwarding recorders onRecordingFailure"
    ),
    "SSHRecorderFailureAction": "RejectSessionWithMessage TerminateSessionWithMessage NotifyURL",
}


def declared() -> dict[str, type[msgspec.Struct]]:
    return {
        name: value
        for module in MODULES
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Wire | CamelWire)
        if value not in {Wire, CamelWire}
    }


def test_every_struct_has_the_members_of_tailcfg() -> None:
    """A member added, dropped or misspelt without this table knowing is an error."""
    spelled = {
        name: [field.encode_name for field in msgspec.structs.fields(struct)]
        for name, struct in declared().items()
    }
    assert spelled == {name: members.split() for name, members in EXPECTED.items()}


def test_structs_are_frozen() -> None:
    """A wire value cannot change after it was made, so its encoding may be kept."""
    assert [
        name for name, struct in declared().items() if not struct.__struct_config__.frozen
    ] == []


@pytest.mark.parametrize(
    ("attribute", "wire"),
    [
        ("allowed_ips", "AllowedIPs"),
        ("derp", "DERP"),
        ("url_is_noise", "URLIsNoise"),
        ("wol_macs", "WoLMACs"),
        ("followup", "Followup"),
    ],
)
def test_go_spelling_follows_from_the_attribute(attribute: str, wire: str) -> None:
    """Initialisms are upper case as in Go, other words capitalised."""
    assert go_name(attribute) == wire
